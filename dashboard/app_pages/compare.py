"""Several runs side by side: curves, results, settings, relations, export. Everything that defines the view is in the address."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard.charts import Look, to_json
from dashboard.compare import controls
from dashboard.compare.cards import Made, chart, relations, scatter_axes
from dashboard.compare.choice import Choice, Loaded, choose, listed, load
from dashboard.compare.config import Difference, differing, groups
from dashboard.compare.export import PATH as EXPORT
from dashboard.compare.outcomes import own_metrics
from dashboard.compare.relations import option_axes
from dashboard.compare.view import REPORT, View, ref_text
from dashboard.compare.words import choice_text, empty, export_links, legend, method, notes
from dashboard.components import chart_grid, highlighting, listen, picture
from dashboard.landing import landing
from dashboard.runs.watch import LIST, SEPARATOR
from dashboard.service import service
from dashboard.widgets import el, plain

LIVE = Path(__file__).with_name("live.py")
COLUMNS = 3


def card(key: str, made: Made, pick: bool = False) -> dict[str, Any]:
    """A chart for the grid; drawn anew only when the picture is another one."""
    return picture(key, made.title, to_json(made.figure), made.help, made.note, pick) | made.zoom


def curves(loaded: Loaded, view: View, look: Look) -> None:
    """One chart per metric, one line per run or group of seeds."""
    joined = groups(loaded.runs, view.group != "off")
    st.html(legend(joined, look.dark))
    words = method(view, joined)
    if words:
        st.caption(words)
    chart_grid("compare", [card(ref_text(ref), chart(joined, ref, view, look)) for ref in view.refs], COLUMNS)


def results(loaded: Loaded, view: View, look: Look) -> None:
    """Final and best figures; a click on a head sorts."""
    from dashboard.compare.results import table  # these load pandas, which curves do without
    from dashboard.compare.table import columns, frame

    joined = groups(loaded.runs, view.group != "off")
    found = frame(table(joined, view.refs), joined, look.dark)
    st.dataframe(
        found,
        hide_index=True,
        column_config=columns(found, view.refs),
        height="content" if len(found) <= 18 else 680,
        row_height=34,
    )
    st.caption(
        "Best is the highest or the lowest value, whichever is better; a KL or a beta has no best. Click a column's head to sort."
    )


def settings(loaded: Loaded) -> None:
    """What differs between the runs, and nothing else."""
    options = differing([run.snapshot for run in loaded.runs])
    if len(loaded.runs) < 2:
        st.html(empty("One run differs from nothing", "Choose a second run above to see which of their settings differ."))
    elif not options:
        st.html(empty("Nothing differs", "All settings of these runs are the same: the seed, the data and the device too."))
    else:
        both = "both runs" if len(loaded.runs) == 2 else f"all {len(loaded.runs):,} runs"
        st.html(el("p", f"{len(options):,} settings differ; the others are the same in {both}. ",
                   "≠ marks what is not as in the first run.", cls="sv-dim sv-choice"))  # fmt: skip
        st.html(Difference(tuple(run.name for run in loaded.runs), options).html())


def related(loaded: Loaded, view: View, look: Look) -> None:
    """Options against outcomes; what is caught in a box can be kept."""
    across, _ = scatter_axes(loaded.runs, view)
    controls.relating(view, [axis.key for axis in option_axes(loaded.runs)], across.key)
    parallel, scatter = relations(loaded.runs, view, look)
    picked = chart_grid("relations", [card("parallel", parallel, pick=True), card("scatter", scatter, pick=True)], 1)
    if picked:
        st.session_state["compare-picked"] = list(dict.fromkeys(picked["points"]))
    st.caption("Drag a box around points of either chart, or click one, to keep only those runs.")
    names = [run.name for run in loaded.runs if run.name in st.session_state.get("compare-picked", ())]
    if 0 < len(names) < len(loaded.runs):
        st.button(f"Keep only {plain(names[0]) if len(names) == 1 else f'these {len(names)} runs'}", icon=":material/filter_alt:",
                  on_click=_keep, args=(tuple(names),), type="primary")  # fmt: skip


def _keep(names: tuple[str, ...]) -> None:
    st.session_state.pop("compare-picked", None)
    controls.show(replace(st.session_state[controls.LAST], run=names, filter=""))


def export(loaded: Loaded, view: View) -> None:
    """Files to take away, and an address to share."""
    names = [run.name for run in loaded.runs]
    address = view.query(names)
    st.html(export_links(EXPORT.lstrip("/"), REPORT.lstrip("/"), address, len(names), view))
    st.markdown(
        "**This view's address.** It opens the same runs, metrics, alignment and axes for everybody who can reach this dashboard."
    )
    st.code(
        f"{st.context.url or ''}?{replace(view, run=tuple(names), filter='', tab='curves').query()}",
        language=None,
        wrap_lines=True,
    )


@st.fragment
def body(choice: Choice, view: View, look: Look) -> None:
    """What was chosen, redrawn every two seconds at most while one of the runs goes on."""
    hub = service()
    opened = listen(
        "compare",
        choice.names,
        seen=hub.revisions.current(SEPARATOR.join(choice.names)),
        every_ms=2000,
        only_visible=True,
        links=True,
    )
    if opened:
        st.switch_page(str(LIVE), query_params={"run": opened})
    loaded = load(choice.names, hub.store, hub.colours)
    said = notes(choice, loaded, view)
    if said:
        st.html(said)
    if not loaded.runs:
        st.html(
            empty("Nothing to draw", "None of the chosen runs can be read. Choose others above, or mend what is named there.")
        )
    elif view.tab == "curves":
        curves(loaded, view, look)
    elif view.tab == "table":
        results(loaded, view, look)
    elif view.tab == "config":
        settings(loaded)
    elif view.tab == "relations":
        related(loaded, view, look)
    else:
        export(loaded, view)


@st.fragment
def follow(choice: Choice, view: View) -> None:
    """Run the page again when the filter finds other runs than are drawn: a new one, or one whose figures came to match."""
    hub = service()
    listen("filter", seen=hub.revisions.current(LIST), every_ms=5000)
    if choose(view, listed(view, hub.summaries)).names != choice.names:
        st.rerun()


@st.fragment
def waiting(runs: int) -> None:
    """No run at all, or none with a log: goes on by itself when one appears."""
    hub = service()
    listen("first", seen=hub.revisions.current(LIST), every_ms=1000)
    found = listed(View(), hub.summaries)
    if len(found) != runs or choose(View(), found).names:
        st.rerun()
    st.html(
        landing(hub.runs) if not runs else empty("No run has logged a step yet", "Charts appear by themselves when one does.")
    )


def main() -> None:
    """The page."""
    highlighting()
    view = controls.current()
    runs = listed(view, service().summaries)
    choice = choose(view, runs)
    if choice.newest:
        st.session_state["compare-suggested"] = choice.names
        view = replace(view, run=choice.names)
        if choice.names:
            controls.show(view)
    if not runs or (not choice.names and choice.newest):
        waiting(len(runs))
        return
    suggested = view.run == st.session_state.get("compare-suggested") and not view.filter
    controls.choosing(view, [run.name for run in runs])
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        controls.tabs(view)
        st.html(el("p", choice_text(replace(choice, newest=suggested), len(choice.names)), cls="sv-dim sv-choice"))
    more = own_metrics(load(choice.names, service().store, service().colours).runs) if controls.is_own_choice(view) else []
    if view.tab == "curves":
        controls.drawing(view, more)
    elif view.tab in ("table", "export"):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            controls.metrics(view, more)
            controls.grouping(view)
    if view.filter:
        follow(choice, view)
    if not choice.names:
        st.html(notes(choice, Loaded((), {}), view) or el("span"))
        st.html(empty("No run matches", "Change the filter, or choose runs by name."))
        return
    body(choice, view, Look(dark=st.context.theme.type == "dark", scale=view.scale))


main()
