"""Hard prompt templates: of a dataset, and files of template groups.

A group file holds groups of templates, one template a line, groups separated by a blank line. ``#`` starts a comment; a
comment right above a group is the group's name. Every template has exactly one ``{}``, where the class name goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from basics import UserError, home

from .tokens import clip_tokenizer

TEMPLATES = "templates"  # folder of the project
GENERIC = "a photo of a {}."

# the seven templates that CLIP's authors found to do almost as well as all eighty (repository CLIP, notebook on prompts)
SELECTED_TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


def imagenet_templates():
    """The 80 templates of CLIP's authors for ImageNet, in the order of open_clip's list."""
    from .open_clip_parts.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    return [template("{}") for template in OPENAI_IMAGENET_TEMPLATES]


def template_for(dataset: type, method: str = "") -> str:
    """The hand-written template of a dataset class.

    Args:
        dataset: a class with the attributes ``template`` and ``templates`` (see ``datasets.common.SplitDataset``), or with
            neither, as those written for Dassl: GENERIC then.
        method: the one whose repository has a table of its own, KgCoOp or ProGrad; else CoOp's holds.

    Raises:
        UserError: the class names something that isn't a template.
    """
    others = getattr(dataset, "templates", {})
    where = f"dataset class {dataset.__name__}"
    if not isinstance(others, dict):
        raise UserError(f"{where}: templates must be {{method: template}}, not {others!r}")
    template = others.get(method) or getattr(dataset, "template", "") or GENERIC
    if not isinstance(template, str):
        raise UserError(f"{where}: a template is a text, not {template!r}")
    check_line(template, where)
    return template


@dataclass(frozen=True)
class TemplateGroup:
    """A named group of templates; its first template initialises the group's expert.

    sentences: ((class, (sentence, …)), …) of a group of descriptions, which guide the expert in place of the templates.
    """

    name: str
    templates: tuple
    sentences: tuple = ()


def soft_parts(template, tokenizer=None):
    """Token ids that become learnable vectors before and after the class name, and the frozen rest (the final full stop).

    "a close-up photo of a {}." gives 7 ids before, none after, and the stop; "{} texture." none before and one after.
    ``tokenizer``: the model's; None for CLIP's own.
    """
    tokenizer = tokenizer or clip_tokenizer()
    before, after = template.split("{}")
    after = after.rstrip()
    stop = tokenizer.encode_behind(".") if after.endswith(".") else []
    return tokenizer.encode(before), tokenizer.encode_behind(after.removesuffix(".")), stop


def word_parts(template, tokenizer=None):
    """(words before, token ids of the vectors before, words after, ids after the class name) as MoCoOp's released code counts.

    That code makes one vector for each word, where words are what blanks separate, and takes the vectors' values from the
    tokenised words in order; where there are more words than tokens, the end token and what follows it are taken. So
    "a close-up photo of a" (5 words, 7 tokens) learns its first 5 tokens, and " texture" (2 words, one of them empty, 1
    token) starts from "texture" and the end token. All full stops of the template are dropped.
    """
    tokenizer = tokenizer or clip_tokenizer()
    before, after = template.replace(".", "").split("{}")
    before = before[:-1]  # the blank before the class name
    counts = [len(part.split(" ")) if part else 0 for part in (before, after)]
    behind = [*tokenizer.end, *[tokenizer.pad] * max(counts)]
    ids = [[*tokenizer.encode(part), *behind][:n] for part, n in zip((before, after), counts)]
    return before, ids[0], after, ids[1]


def group_file(dataset: type, name: str = "") -> Path:
    """The group file of a dataset class, ``templates/<its name>.txt``, or ``templates/default.txt`` without one.

    Its name is ``name`` where that is given, else the attribute ``group_file`` or the class's own; letter case and underscores
    don't count.
    """
    plain = (name or getattr(dataset, "group_file", "") or dataset.__name__).lower().replace("_", "")
    for file in home.listed(TEMPLATES, "*.txt"):
        if file.stem.replace("_", "") == plain:
            return file
    return home.find(f"{TEMPLATES}/default.txt")


def read_groups(path: str | Path, doubled_blanks: bool = False) -> list[TemplateGroup]:
    """Parse a group file.

    Args:
        path: of the file; one that ends in .json holds groups of descriptions.
        doubled_blanks: allow two blanks in a row, where they mean something (``word_parts``).

    Returns:
        list of TemplateGroup.

    Raises:
        UserError: no such file, no group in it, or a line that isn't a template; names file and line.
    """
    path = Path(home.found(path))
    if path.suffix == ".json":
        from .descriptions import read_described

        return read_described(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"template file {path} does not exist (TRAINER.MOCOOP.TEMPLATES)") from None
    except (UnicodeDecodeError, OSError) as e:
        raise UserError(f"template file {path} cannot be read as UTF-8 text: {e}") from None
    groups: list[TemplateGroup] = []
    current: list[str] = []
    name = ""
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        content, _, comment = line.partition("#")
        content = content.strip()
        if content:
            check_line(content, f"{path}:{number}", doubled_blanks)
            current.append(content)
        elif comment and not current:
            name = comment.strip()
            if not name.isprintable():
                raise UserError(f"{path}:{number}: control character in the name of a group: {name!r}")
        elif not comment and current:
            groups.append(TemplateGroup(name or f"group {len(groups) + 1}", tuple(current)))
            current, name = [], ""
        elif not comment:
            name = ""
    if not groups:
        raise UserError(f"template file {path} holds no template")
    return groups


def check_line(template, where, doubled_blanks=False):
    """A template has one {} and no other brace, no doubled blank unless asked for, no control character."""
    if not template.isprintable():
        raise UserError(f"{where}: control character in a template: {template!r}")
    if template.count("{}") != 1:
        raise UserError(f'{where}: a template needs exactly one {{}} for the class name: "{template}"')
    rest = template.replace("{}", "")
    if "{" in rest or "}" in rest:
        raise UserError(f'{where}: only an empty pair of braces may stand in a template: "{template}"')
    if "  " in template and not doubled_blanks:
        raise UserError(f'{where}: two blanks in a row: "{template}"')
