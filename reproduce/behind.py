"""HTML that leads from a number of the report to the runs behind it: folder, configuration, code, libraries, weights, data."""

import datetime
import json
import os
import shlex
import sys
from html import escape

from basics import home
from basics.identity import describe
from reproduce.recorded import provenance
from reproduce.render import short


class Behind:
    """The runs behind the numbers of a page.

    Args:
        folder: of the page; links are relative to it.
    """

    def __init__(self, folder):
        self.folder, self.anchors, self.sources = folder, {}, {}
        self._cells = []  # of the section under way: (anchor, what the number is, its sources)
        self._count = 0

    def number(self, text, cell, name):
        """The HTML of a cell's text, as a link to its runs. `name`: what the number is."""
        if not cell.sources:
            return escape(text)
        self._count += 1
        self._cells.append((f"n{self._count}", name, cell.sources))
        return f'<a href="#n{self._count}">{escape(text)}</a>'

    def cells(self):
        """HTML of the list that the numbers since the last call lead to."""
        lines = "".join(
            f'<li id="{anchor}">{escape(name)}: {", ".join(map(self._link, sources))}</li>\n'
            for anchor, name, sources in self._cells
        )
        self._cells = []
        return f'<details class="note"><summary>Runs behind each number</summary><ul>{lines}</ul></details>' if lines else ""

    def _link(self, source):
        anchor = self.anchors.setdefault(source.folder, f"run{len(self.anchors) + 1}")
        self.sources.setdefault(source.folder, source)
        text = f"{source.run.label}, {source.accuracy:.2f}" + ("" if source.counted else " (not counted)")
        return f'<a href="#{anchor}">{escape(text)}</a>'

    def about(self):
        """Texts on all runs that `cells` has linked to: when they and the page were made, from which code, with what."""
        now = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="minutes")
        yield f"Made {now} by: {home.command('reproduce')} {shlex.join(sys.argv[1:])}"
        found = [provenance(source) for source in self.sources.values()]
        dates = sorted(text[:10] for text in (run["date"] for run in found) if text)
        when = f", made {dates[0]}" + (f" to {dates[-1]}" if dates[-1] != dates[0] else "") if dates else ""
        text = f"{len(found)} run{'s' if len(found) != 1 else ''}{when}"
        for name, label in (("commit", "code"), ("libraries", "libraries"), ("device", "device")):
            values = list(dict.fromkeys(run[name] for run in found if run[name]))
            text += f"; {label}: {' | '.join(map(short, values))}" if values else ""
        yield text

    def runs(self):
        """HTML of all runs that `cells` has linked to."""
        if not self.sources:
            return ""
        return '<section id="runs"><h2>Runs</h2>\n' + "".join(map(self._run, self.sources.values())) + "</section>\n"

    def _run(self, source):
        place = os.path.relpath(source.folder, self.folder)
        rows = [("folder", f'<a href="{escape(place)}/">{escape(place)}</a>')]
        rows += [(name, escape(str(text))) for name, text in provenance(source).items() if text]
        if source.departures:
            rows.append(("not as the recipe", escape(describe(source.departures))))
        config = json.dumps(source.result.get("config") or {}, indent=1)
        config = f"<details><summary>all settings</summary><pre>{escape(config)}</pre></details>"
        rows.append(("configuration", config))
        body = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{text}</td></tr>\n' for name, text in rows)
        label = f"<caption>{escape(source.run.label)}</caption>"
        return f'<table class="run" id="{self.anchors[source.folder]}">{label}{body}</table>\n'
