"""The pages as a site: all of them have a place in it, and no link is broken."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("material")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "not included in the" not in done.stdout  # every page stands in the navigation
    return folder


def test_every_page_is_there(site):
    pages = {file.stem for file in site.glob("*.html")}
    assert {file.stem for file in (PROJECT / "docs").glob("*.md")} <= pages
    assert {"index", "CONTRIBUTING", "CHANGELOG", "benchmarks", "builtin-model", "templates"} <= pages


def test_links_stay_in_the_site(site):
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r'<a [^>]*href="([^"#]+)', text):
            if "://" not in link and not link.startswith("mailto:"):
                assert (site / link.lstrip("/")).exists(), (page.name, link)
