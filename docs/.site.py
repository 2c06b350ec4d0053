"""Hook of mkdocs: pages that lie outside docs/ become pages of the site, and links follow them.

A link to a file that is no page, such as a module, becomes its path in code type: the site holds pages only.
"""

import os.path as osp
import re
from pathlib import Path

from mkdocs.structure.files import File

PROJECT = Path(__file__).resolve().parents[1]
ELSEWHERE = {  # file of the project: page of the site
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "benchmarks/README.md": "benchmarks.md",
    "models/builtin/README.md": "builtin-model.md",
    "templates/README.md": "templates.md",
}
PAGE_OF = {page: file for file, page in ELSEWHERE.items()}
LINK = re.compile(r"\[([^\]\n]*)\]\(([^)\s]+)\)")


def on_files(files, config):
    """Add the pages that lie elsewhere."""
    for file, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(PROJECT / file).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turn links between the project's files into links between pages."""
    source = PAGE_OF.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def follow(match):
        text, target = match.groups()
        path, mark, anchor = target.partition("#")
        if "://" in target or not path:
            return match[0]
        path = osp.normpath(osp.join(osp.dirname(source), path))
        if not (PROJECT / path).exists():
            return match[0]  # strict mode reports it
        site = ELSEWHERE.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else "")
        if site and files.get_file_from_path(site):
            return f"[{text}]({site}{mark}{anchor})"
        return f"{text} (`{path}`)" if text.strip("`") != path else f"`{path}`"

    return LINK.sub(follow, markdown)
