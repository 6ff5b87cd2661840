"""The widgets of the Compare page. The address is the one truth: a widget shows what it says, and writes into it when used."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from dashboard.compare.filter import HELP
from dashboard.compare.outcomes import FIGURES, title
from dashboard.compare.view import SETS, Ref, View, ref_text
from shared.panels import CATALOGUE

LAST = "last comparison"
OWN = "own"
TABS = {
    "curves": ":material/stacked_line_chart: Curves", "table": ":material/table_rows: Results",
    "config": ":material/difference: Settings", "relations": ":material/hub: Relations", "export": ":material/download: Export",
}  # fmt: skip
SET_NAMES = {
    "overview": "Overview", "posterior": "Posterior", "losses": "Losses", "outcome": "Outcome", "pace": "Schedule and pace", OWN: "Own choice",
}  # fmt: skip
ALIGNMENTS = {"step": "Step", "epoch": "Epoch", "time": "Time", "onset": "Verdict onset"}
GROUPINGS = {"off": "Each run", "minmax": "Mean, min to max", "sd": "Mean ± 1 sd"}
SCALES = {"auto": "Auto", "linear": "Linear", "log": "Log"}
SPANS = (0, 10, 30, 100, 300, 1000, 3000, 10_000)
REFS: list[Ref] = [(role, name) for role, metrics in CATALOGUE.items() for name in metrics]


def current() -> View:
    """The view of the address; of a bare address, the one looked at last in this session."""
    asked = {name: st.query_params.get_all(name) for name in st.query_params}
    view = View.of(asked) if asked else st.session_state.get(LAST, View())
    show(view)
    return view


def show(view: View) -> None:
    """Make this the view: in the address, and where the page comes back to."""
    if {name: st.query_params.get_all(name) for name in st.query_params} != view.params():
        st.query_params.from_dict(view.params())
    st.session_state[LAST] = view


def _change(**changes: Any) -> None:
    show(replace(st.session_state.get(LAST, View()), **changes))


def _follow(field: str) -> None:
    value = st.session_state[f"compare-{field}"]
    _change(**{field: tuple(value) if field == "run" else value if value is not None else getattr(View(), field)})


def _bound(field: str, value: Any) -> dict[str, Any]:
    """Arguments that tie a widget to a field of the view."""
    st.session_state[f"compare-{field}"] = value
    return {"key": f"compare-{field}", "on_change": _follow, "args": (field,)}


def choosing(view: View, names: Sequence[str]) -> None:
    """The runs, by name and by filter."""
    options = list(dict.fromkeys([*view.run, *names]))
    with st.container(horizontal=True, vertical_alignment="bottom", key="compare-choosing"):
        st.multiselect(
            "Runs", options, wrap=False, placeholder="Choose runs", filter_mode="contains", width="stretch",
            help="Type to narrow the list. The first run is the reference that settings are held against.", **_bound("run", list(view.run)),
        )  # fmt: skip
        st.text_input(
            "And all runs that match", placeholder="tag:sweep loss.beta_max>0.5", icon=":material/filter_alt:", help=HELP, width=380,
            **_bound("filter", view.filter),
        )  # fmt: skip


def tabs(view: View) -> None:
    """Which side of the comparison is shown."""
    st.segmented_control(
        "View", list(TABS), format_func=TABS.__getitem__, required=True, label_visibility="collapsed", **_bound("tab", view.tab)
    )


def is_own_choice(view: View) -> bool:
    """Whether metrics are chosen one by one."""
    return view.metrics not in SETS


def metrics(view: View, more: Sequence[Ref]) -> None:
    """Which metrics are drawn or listed: a set, or one's own choice, of the catalogue and of `more` that the runs have."""
    own = is_own_choice(view)
    st.session_state["compare-set"] = OWN if own else view.metrics
    st.selectbox(
        "Metrics", list(SET_NAMES), format_func=SET_NAMES.__getitem__, key="compare-set", on_change=_choose_set, width=180
    )
    if own:
        st.session_state["compare-own"] = list(view.refs)
        offered = list(dict.fromkeys([*REFS, *more, *view.refs]))
        st.multiselect("Chosen metrics", offered, format_func=title, key="compare-own", on_change=_choose_own, wrap=False, width=420,
                       filter_mode="contains")  # fmt: skip


def _choose_set() -> None:
    chosen = st.session_state["compare-set"]
    view = st.session_state.get(LAST, View())
    _change(metrics=",".join(map(ref_text, view.refs)) if chosen == OWN else chosen)


def _choose_own() -> None:
    _change(metrics=",".join(map(ref_text, st.session_state["compare-own"])) or "overview")


def drawing(view: View, more: Sequence[Ref]) -> None:
    """How curves are drawn."""
    with st.container(horizontal=True, vertical_alignment="top", key="compare-drawing"):
        metrics(view, more)
        st.segmented_control(
            "Align by", list(ALIGNMENTS), format_func=ALIGNMENTS.__getitem__, required=True,
            help="Time counts from the first step of each run, pauses included. Verdict onset puts the first step of each run's first alarm "
            "or warning at 0: did they fail in the same way?", **_bound("x", view.x),
        )  # fmt: skip
        st.select_slider(
            "Smoothing", sorted({*SPANS, view.smooth}), format_func=lambda span: f"{span:,} steps" if span else "off", width=190,
            help="A moving average whose weights fall to 1/e over so many steps.", **_bound("smooth", view.smooth),
        )  # fmt: skip
        grouping(view)
        st.segmented_control(
            "Vertical axes", list(SCALES), format_func=SCALES.__getitem__, required=True, **_bound("scale", view.scale),
            help="Auto takes a logarithmic axis where values span so much that a linear one shows only the peak.",
        )  # fmt: skip


def grouping(view: View) -> None:
    """Whether runs that differ in the seed alone are joined."""
    st.segmented_control(
        "Seeds", list(GROUPINGS), format_func=GROUPINGS.__getitem__, required=True, **_bound("group", view.group),
        help="Runs whose settings differ in nothing but the seed, and in where files lie, become one line: their mean, with a band.",
    )  # fmt: skip


def relating(view: View, options: Sequence[str], across: str) -> None:
    """The axes of the scatter chart."""
    figures = {figure.key: figure.label for figure in FIGURES}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        choices = [*options, *figures]
        st.selectbox("Across", choices, format_func=lambda key: figures.get(key, key), width=300, **_bound("across", across))
        up = view.up if view.up in figures else "auroc"
        st.selectbox("Up", list(figures), format_func=figures.__getitem__, width=300, **_bound("up", up))
