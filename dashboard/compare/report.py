"""A comparison as one HTML file that opens anywhere without a server: `GET /compare-report?run=a&run=b` (`REPORT`).

plotly.js is in it, nothing is fetched (its content policy forbids it), and every text of a run is escaped.
"""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import plotly
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from dashboard.charts import Figure, Look, to_json
from dashboard.compare.cards import Made, chart, relations
from dashboard.compare.choice import Choice, Loaded, choose, listed, load
from dashboard.compare.config import Difference, differing, groups
from dashboard.compare.curves import Drawn
from dashboard.compare.outcomes import last_step
from dashboard.compare.results import frame_table, table
from dashboard.compare.view import View
from dashboard.compare.words import legend, method, notes, rows_of, verdict_table
from dashboard.formats import count, duration
from dashboard.service import Service
from dashboard.widgets import Html, badge, el
from shared.schema import now

FRONTEND = Path(__file__).parents[1] / "frontend"
SHEETS = ("style.css", "compare.css", "report/sheet.css")
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


@cache
def _plotly_script() -> str:
    source = (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    return source.replace("</script", "<\\/script")


@cache
def _file(name: str) -> str:
    return (FRONTEND / name).read_text(encoding="utf-8")


def _in_script(figure: Figure) -> str:
    """A figure inside a script element: no text of it can end that element."""
    return to_json(figure).replace("<", "\\u003c")


def report(choice: Choice, loaded: Loaded, view: View, address: str) -> str:
    """The whole document."""
    runs = loaded.runs
    joined = groups(runs, view.group != "off")
    charts = [chart(joined, ref, view, Look()) for ref in view.refs]
    related = relations(runs, view, Look())
    options = differing([run.snapshot for run in runs])
    difference = (
        Difference(tuple(run.name for run in runs), options).html() if options else el("p", "These runs differ in no option.")
    )
    name = f"Comparison of {len(runs):,} {'run' if len(runs) == 1 else 'runs'}"
    body = el(
        "main",
        el("h1", name),
        el("p", f"Made {now():%-d %B %Y, %H:%M} UTC by SeqSetVAE Monitor with plotly.js as of plotly {plotly.__version__}. ",
           "The same view in the dashboard: ", el("code", address), cls="sv-dim"),
        notes(choice, loaded, view),
        el("section", el("h2", "Curves"), legend(joined, dark=False, links=False), el("p", method(view, joined), cls="sv-dim"), _grid(charts)),
        el("section", el("h2", "Final and best figures"), el("div", frame_table(table(joined, view.refs)), cls="sv-scroll")),
        el("section", el("h2", "What differs"), difference),
        el("section", el("h2", "Hyperparameters against outcomes"), _grid(related, wide=True)),
        el("section", el("h2", "Verdicts"), el("div", verdict_table(runs), cls="sv-scroll")),
        el("section", el("h2", "Where this comes from"), *(_provenance(run) for run in runs)),
        cls="stApp",
    )  # fmt: skip
    figures = ",".join(_in_script(each.figure) for each in [*charts, *related])
    return _document(name, body, figures)


def _document(title: str, body: Html, figures: str) -> str:
    """Scripts and sheets are our own files; only `body` and `figures` hold what runs say, both escaped."""
    sheets = "".join(_file(name) for name in SHEETS)
    scripts = f"{_file('saving.js')}\n{_file('report/script.js')}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">{el("title", title)}<style>{sheets}</style></head>\n'
        f"<body>{body}\n<script>{_plotly_script()}</script>\n<script>const FIGURES = [{figures}];\n{scripts}</script>\n</body></html>\n"
    )


def _grid(charts: Sequence[Made], wide: bool = False) -> Html:
    made = [
        el(
            "figure",
            el("h3", one.title, el("small", one.note, cls="sv-dim") if one.note else None),
            el("div", cls="sv-plot"),
            el("figcaption", one.help, cls="sv-dim"),
            cls="sv-card",
        )
        for one in charts
    ]
    return el("div", *made, cls="sv-figures sv-wide" if wide else "sv-figures")


def _provenance(run: Drawn) -> Html:
    status = run.snapshot.status
    info = status.info
    assert info is not None
    data = info.dataset
    session = info.sessions[-1] if info.sessions else None
    ended = (status.heartbeat.at if status.heartbeat else info.state_since) - info.created_at
    facts = rows_of([
        ("Started", f"{info.created_at:%Y-%m-%d %H:%M} UTC"), ("Took", duration(ended.total_seconds())),
        ("Steps", count(last_step(run.snapshot))), ("Device", f"{info.device}, {info.precision}"),
        ("Parameters", count(info.parameters) if info.parameters else None),
        ("Data set", f"{data.name}{' (simulated)' if data.simulated else ''}, fingerprint {data.fingerprint[:12]}" if data else None),
        ("Versions", ", ".join(f"{name} {version}" for name, version in info.versions.items())),
        ("Remedy", f"{info.lineage.remedy}, from {info.lineage.run}" if info.lineage else None),
        ("Command", " ".join(session.command) if session else None),
    ])  # fmt: skip
    return el("details", el("summary", el("strong", run.name), " ", badge(status.health)), el("dl", facts, cls="sv-facts"))


def answer(hub: Service, request: Request) -> Response:
    """The report that a request asks for; its parameters are those of the page's address."""
    view = View.of({name: request.query_params.getlist(name) for name in request.query_params})
    choice = choose(view, listed(view, hub.summaries))
    loaded = load(choice.names, hub.store, hub.colours)
    if not loaded.runs:
        return PlainTextResponse("none of the runs in this address can be read; name some with run=NAME", status_code=404)
    text = report(choice, loaded, view, f"{request.base_url}compare?{view.query()}")
    headers = {"Content-Disposition": 'attachment; filename="comparison.html"', "Cache-Control": "no-store"}
    return Response(text, media_type="text/html; charset=utf-8", headers=headers)
