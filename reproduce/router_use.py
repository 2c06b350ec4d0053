"""What the routers of finished MoCoOp runs did, as a table of the report: from the `router` entry of results.json."""

from statistics import mean

from reproduce.facts import printed_name

COLUMNS = ("entropy", "of the target", "most frequent choice", "its share", "images")


def rows(selection, out):
    """(name, values of COLUMNS as text) of each MoCoOp row and data set: means over seeds; the choice is the first seed's."""
    found = []
    for row in selection.rows if not selection.experiment.source else ():
        for dataset in selection.datasets if row.trainer == "MoCoOp" else ():
            for column, runs in selection.cells(row, dataset).items():
                results = [run.result(out) for run in runs]
                reports = [r["router"] for r in results if r and is_report(r.get("router"))]
                if reports:
                    found.append((f"{row.name}, {printed_name(dataset)}, {column}", _values(reports)))
    return found


def is_report(report):
    """Whether a results.json has a router's report that can be read; an older or damaged one hasn't."""
    try:
        first, training = report["sets"][0], report.get("training")
        numbers = [report["images"], first["share"], report["entropy"] or 0.0, training["target"] if training else 0.0]
        return all(isinstance(n, (int, float)) for n in numbers) and all(isinstance(name, str) for name in first["experts"])
    except (KeyError, IndexError, TypeError, AttributeError):
        return False


def _values(reports):
    first = reports[0]["sets"][0]["experts"]
    targets = [r["training"]["target"] for r in reports if r.get("training")]
    entropies = [r["entropy"] for r in reports if r["entropy"] is not None]
    share = lambda values: f"{100 * mean(values):.1f}%" if values else "-"  # noqa: E731
    largest = [r["sets"][0]["share"] for r in reports]
    spread = f" ({100 * min(largest):.0f}–{100 * max(largest):.0f})" if len(largest) > 1 else ""
    return share(entropies), share(targets), " + ".join(first), share(largest) + spread, f"{reports[0]['images']:,}"
