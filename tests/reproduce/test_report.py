"""Figures as files and the HTML report: what is in them, what is escaped, and that a browser shows it."""

import html.parser
import json
import re
import shutil
import subprocess

import pytest

from reproduce.__main__ import main
from reproduce.experiments import EXPERIMENTS, Selection
from reproduce.routing_job import Routing

HOSTILE = '<script>document.title="broken"</script> & "a {}"'
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c636000000002000148afa471"
    "0000000049454e44ae426082"
)
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def finish(folder, accuracy=70.0):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(
        json.dumps({"status": "finished", "metrics": {"accuracy": accuracy}, "config": {}, "finished_at": "2025-01-01"})
    )


@pytest.fixture
def out(monkeypatch, tmp_path):
    """Finished runs of Table 2 (EuroSAT and letters), Figure 3 (letters), Figure 4 and Figure 5 (EuroSAT)."""
    monkeypatch.setenv("OUT", str(tmp_path))
    for name, dataset in (("table2", "eurosat"), ("table2", "letters"), ("fig3", "letters"), ("fig4", "eurosat")):
        experiment = EXPERIMENTS[name]
        for i, run in enumerate(Selection(experiment, (dataset,), experiment.rows).runs()):
            finish(run.directory(tmp_path), 60 + i / 10)
    fig5 = EXPERIMENTS["fig5"]
    routing = Routing(Selection(fig5, ("eurosat",), fig5.rows).run("base2new_train", fig5.rows[0], "eurosat", 1))
    folder = routing.directory(tmp_path)
    folder.mkdir(parents=True)
    (folder / "routing.png").write_bytes(PNG)
    expert = {"name": "Plain & simple", "template": HOSTILE, "weight": 0.7, "chosen": True, "mixing": 1.0}
    classes = [{"name": "river", "probability": 0.9}]
    image = {"image": "x.png", "truth": HOSTILE, "classes": classes, "experts": [expert]}
    (folder / "routing.json").write_text(json.dumps({"trained_at": "2025-01-01", "images": [image]}))
    return tmp_path


def test_report_says_what_routers_did(out):
    fig5 = EXPERIMENTS["fig5"]
    runs = [Selection(fig5, ("eurosat",), fig5.rows).run("base2new_train", fig5.rows[0], "eurosat", s) for s in (1, 2, 3)]
    for run, share in zip(runs, (0.5, 0.75, None)):
        file = run.directory(out) / "results.json"
        sets = [{"experts": ["Plain", HOSTILE], "share": share}] if share else []  # the third one is damaged
        router = {"images": 520, "entropy": 0.997, "experts": [], "sets": sets, "training": {"router": 0.99, "target": 0.95}}
        file.write_text(json.dumps({**json.loads(file.read_text()), "router": router}))
    assert main(["report"]) == 0
    text = Page((out / "report.html").read_text(encoding="utf-8")).text
    for part in ("+ L_text, EuroSAT, base", "99.7%", "95.0%", f"Plain + {HOSTILE}", "62.5% (50–75)"):
        assert part in text


class Page(html.parser.HTMLParser):
    """Collects tags, attributes that load something, headings and text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_report_has_what_exists_in_one_file_and_escapes_names(out, capsys):
    assert main(["report"]) == 0
    assert capsys.readouterr().out == f"written: {out / 'report.html'}\n"
    text = (out / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    headings = re.findall(r"<h2>(Table|Figure) (\d)", text)
    # the full MoCoOp run of Table 2 is also in Table 1; Tables 3-5 and 7 have no run of their own
    assert headings == [("Table", n) for n in "1122"] + [("Figure", n) for n in "345"]
    assert "script" not in page.tags and HOSTILE in page.text and "Plain & simple" in page.text
    own = ("data:image/", "#", "base2new/", "fewshot/")  # nothing is loaded from elsewhere; links to the runs' folders
    assert all(source.startswith(own) for source in page.sources)
    assert sum(source.startswith("data:image/svg+xml") for source in page.sources) == 2
    assert "89.73" in page.text and "text loss, built-in model" in page.text and "Table 1 has H 68.27" in page.text
    assert "python -m reproduce table1 --methods KgCoOp" in page.text


def test_nothing_to_report_is_an_error(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("OUT", str(tmp_path))
    assert main(["report"]) == 2
    assert "nothing to report" in capsys.readouterr().err


@pytest.mark.skipif(not BROWSER, reason="no chromium or chrome on this machine")
def test_a_browser_shows_the_report(out, tmp_path):
    main(["report"])
    probe = tmp_path / "probe.html"  # the page, and a script that says how it was laid out
    script = (
        "document.title = JSON.stringify([document.querySelectorAll('table').length, "
        "[...document.images].map(i => i.complete && i.naturalWidth > 0), document.title])"
    )
    text = (out / "report.html").read_text(encoding="utf-8")
    probe.write_text(text.replace("</body>", f"<script>onload = () => {{{script}}}</script></body>"))
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
        probe.as_uri(),
    ]
    dom = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=120).stdout
    tables, images, title = json.loads(re.search(r"<title>(.*?)</title>", dom)[1])
    assert title == "Reproduction report"  # the hostile class name's script hasn't run
    assert tables == text.count("<table") and len(images) == 3 and all(images)


@pytest.mark.parametrize(
    "name, dataset, words",
    [
        ("fig3", "letters", ["letters", "LinearProbe", "MoCoOp", "labelled images a class"]),
        ("fig4", "eurosat", ["EuroSAT", "base", "H"]),
    ],
)
def test_figures_are_written_as_pdf_and_png_or_as_asked(out, name, dataset, words, capsys):
    assert main([name, "--datasets", dataset]) == 0
    pdf, png = (out / "figures" / f"{name}-{dataset}.{kind}" for kind in ("pdf", "png"))
    assert pdf.read_bytes().startswith(b"%PDF") and png.read_bytes().startswith(b"\x89PNG")
    assert f"written: {pdf}" in capsys.readouterr().out
    before = pdf.read_bytes()
    main([name, "--datasets", dataset, "--out", str(out / "again.pdf")])
    assert (out / "again.pdf").read_bytes() == before  # no time stamp
    main([name, "--datasets", dataset, "--out", str(out / "f.svg")])
    drawn = re.findall(r"<!-- (.*?) -->", (out / "f.svg").read_text())
    assert set(words) <= set(drawn), drawn


def test_figure_without_results_says_what_is_missing(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("OUT", str(tmp_path))
    assert main(["fig3", "--datasets", "digits", "--methods", "CoOp"]) == 0
    text = capsys.readouterr().out
    assert "written" not in text and "CoOp: 15 runs missing" in text


def test_fig5_copies_the_picture_and_lists_weights(out, capsys):
    assert main(["fig5", "--datasets", "eurosat", "--out", str(out / "five.png")]) == 0
    assert (out / "five.png").read_bytes() == PNG
    main(["fig5", "--datasets", "eurosat", "--format", "csv", "--out", str(out / "five.csv")])
    assert "Plain & simple,70.0" in (out / "five.csv").read_text()
    assert main(["fig5", "--datasets", "eurosat", "dtd", "--out", str(out / "five.png")]) == 2


def test_page_says_when_with_what_and_which_numbers_are_best(out):
    assert main(["report"]) == 0
    text = (out / "report.html").read_text(encoding="utf-8")
    assert '<meta name="viewport" content="width=device-width' in text
    for part in ("by: python -m reproduce", "made 2025-01-01", "(1/3): one of 3 runs is finished"):
        assert part in text, part
    table = re.search(r"<table><caption>EuroSAT</caption>.*?</table>", text, re.S)[0]
    assert table.count('<th scope="row">') == len(re.findall("<tr>", table)) - 1 and '<th scope="col">base</th>' in table
    column = [float(number) for number in re.findall(r'<th scope="row">.*?</th><td>(?:<b>)?<a [^>]*>([\d.]+)', table)]
    best = [float(number) for number in re.findall(r'<th scope="row">.*?</th><td><b><a [^>]*>([\d.]+)', table)]
    assert best == [max(column)] and len(set(column)) > 1


def test_one_seed_is_no_mean_of_three(out):
    assert main(["report", "--seeds", "1"]) == 0
    text = Page((out / "report.html").read_text(encoding="utf-8")).text
    assert "(1/" not in text and "of seed 1" in text


@pytest.mark.skipif(not BROWSER, reason="no chromium or chrome on this machine")
def test_page_is_as_wide_as_a_phone(out, tmp_path):
    main(["report"])
    frame = tmp_path / "frame.html"  # a headless window can't be as narrow as a phone; a frame can
    frame.write_text(
        f'<iframe src="{(out / "report.html").as_uri()}" style="width:390px;height:800px"></iframe>'
        "<script>onload = () => { const page = document.querySelector('iframe').contentDocument.documentElement; "
        "document.title = page.scrollWidth + ' ' + page.clientWidth }</script>"
    )
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom", frame.as_uri()]
    command = [BROWSER, f"--user-data-dir={tmp_path / 'profile'}", *words]
    dom = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=120).stdout
    scroll, client = map(int, re.search(r"<title>(\d+) (\d+)</title>", dom).groups())
    assert client < 400 and scroll <= client
