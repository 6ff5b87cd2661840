"""What the reader has chosen on the Reconstruction page. The address is the only place that holds it."""

from collections.abc import Sequence

import streamlit as st

from dashboard.reconstruction.events import Source, newest
from dashboard.runs.colours import PALETTE
from dashboard.widgets import el

SOURCE, VARIABLES, OF, PATIENT = "source", "variable", "of", "patient"
"""Names in the address."""
MOST_VARIABLES = len(PALETTE[False])
"""As many as there are colours."""
ALL = "All variables"
NEWEST = "newest"
WORST = "The worst reconstructed"


def say(text: str) -> None:
    """A quiet remark; names of variables and words of an address in it are never markup."""
    st.html(el("p", text, cls="sv-dim"))


def _key(name: str, place: str = "") -> str:
    return f"reconstruction-{name}{place}"


def _tell(name: str, place: str = "", default: object = None) -> None:
    """Write what a widget holds to the address; what is the default anyway is left out."""
    value = st.session_state[_key(name, place)]
    if value in (None, default, []):
        st.query_params.pop(name, None)
    else:
        st.query_params[name] = value


def choose_source(found: Sequence[Source]) -> Source | None:
    """The snapshot named by the address, else the newest, which is then followed; None where there is none.

    To follow is a choice of its own, which stays the same when a snapshot is added: a browser that has not heard of it yet, and sends
    what it holds along with something else, chooses nothing by that.
    """
    last = newest(found)
    if last is None:
        return None
    by_key = {source.key: source for source in found}
    asked = st.query_params.get(SOURCE)
    source = by_key.get(asked or "", last)
    order = [one.key for one in found if one.step is None] + [one.key for one in found if one.step is not None]
    labels = {NEWEST: "Newest, followed"} | {key: by_key[key].label for key in order[::-1]}
    st.session_state[_key(SOURCE)] = source.key if asked == source.key else NEWEST
    st.selectbox(
        "Snapshot", list(labels), key=_key(SOURCE), on_change=_tell, args=(SOURCE, "", NEWEST), width=420,
        format_func=lambda key: labels.get(key, key),
        help="Written at every evaluation of the probe set, or later from a checkpoint. While the newest is chosen, the page goes on to "
        "each next one.",
    )  # fmt: skip
    if asked and asked not in by_key:
        say(f"{asked} is not among the snapshots (long runs are thinned): this is the newest.")
    return source


def look_at(step: int, last: Source | None) -> None:
    """Show the snapshot of a step from now on."""
    key = f"step-{step}"
    if last is not None and last.key == key:
        st.query_params.pop(SOURCE, None)
    else:
        st.query_params[SOURCE] = key


def chosen_variables(known: Sequence[str], default: Sequence[str]) -> list[str]:
    """Variables of the address that this snapshot has; `default` where it names none."""
    asked = list(dict.fromkeys(st.query_params.get_all(VARIABLES)))
    return [name for name in asked if name in known][:MOST_VARIABLES] or list(default)


def choose_variables(place: str, known: Sequence[str]) -> None:
    """A field to choose variables in; there may be several, all about the same choice."""
    st.session_state[_key(VARIABLES, place)] = chosen_variables(known, ())
    st.multiselect(
        "Variables", list(known), key=_key(VARIABLES, place), on_change=_tell, args=(VARIABLES, place), max_selections=MOST_VARIABLES,
        placeholder="those measured most often",
        help=f"Up to {MOST_VARIABLES}, for the charts over training and for the patient's record. Empty: those measured most often.",
    )  # fmt: skip


def toggle_variable(name: str, chosen: Sequence[str]) -> None:
    """Add a variable, the oldest making room, or take it out."""
    others = [one for one in chosen if one != name]
    st.query_params[VARIABLES] = others or [name] if name in chosen else [*others, name][-MOST_VARIABLES:]


def choose_focus(known: Sequence[str]) -> str | None:
    """One variable for the charts of a section, or None for all of them."""
    asked = st.query_params.get(OF)
    st.session_state[_key(OF)] = asked if asked in known else ALL
    held = st.selectbox(
        "Values of", [ALL, *known], key=_key(OF), on_change=_tell, args=(OF, "", ALL), width=300,
        help="All values together, or those of one variable.",
    )  # fmt: skip
    return None if held in (None, ALL) else held


def choose_patient(order: Sequence[str]) -> str:
    """The patient of the address, else the first of `order`, which is not empty; who that is may change with each snapshot."""
    asked = st.query_params.get(PATIENT)
    patient = asked if asked is not None and asked in order else order[0]
    st.session_state[_key(PATIENT)] = patient if asked == patient else WORST
    st.selectbox(
        "Patient", [WORST, *order], key=_key(PATIENT), on_change=_tell, args=(PATIENT, "", WORST), width=300,
        help="Worst reconstructed first. A click on a line of the table above chooses too.",
    )  # fmt: skip
    if asked and asked != patient:
        say("The patient in the address is not in this snapshot: this is the worst reconstructed one.")
    return patient


def set_patient(patient: str) -> None:
    """Show this patient from now on."""
    st.query_params[PATIENT] = patient
