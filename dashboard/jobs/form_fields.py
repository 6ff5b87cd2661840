"""The fields of the form, one per option of the trainer: drawn by kind, with default and limits, and the error beside it."""

from collections.abc import Mapping, Sequence

import streamlit as st

from dashboard.jobs.draft import CHOSEN_ELSEWHERE, Draft
from dashboard.jobs.options import NONE, Option, groups, option, options
from dashboard.widgets import Html, el

ESSENTIAL = (
    "run_name", "max_epochs", "max_steps", "batch_size", "learning_rate", "precision", "latent_dim", "width", "levels",
    "beta_max", "beta_warmup_steps", "free_bits", "label", "on_collapse", "seed",
)  # fmt: skip
FIRST, CHANGED = "essentials", "changed"
COLUMNS = 3


def choose_options(draft: Draft, changed: Sequence[str], problems: Mapping[str, str], labels: Sequence[str]) -> None:
    """A search over all options, groups of them, and the fields of what is chosen."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        group = st.segmented_control(
            "Group", [FIRST, *groups(), CHANGED], default=FIRST, required=True, key="group", persist_state="session",
            format_func=lambda name: f"Changed ({len(changed)})" if name == CHANGED else name.capitalize(), label_visibility="collapsed",
            wrap=True,
        )  # fmt: skip
        asked = st.text_input(
            "Search options", key="search", live="200ms", type="search", placeholder="Search all options", width=260,
            label_visibility="collapsed",
        )  # fmt: skip
    found = matching(asked or "") if asked else _of_group(group or FIRST, changed)
    if asked and not found:
        st.html(el("p", "No option is named or described like this.", cls="sv-dim"))
    elif not found:
        st.html(el("p", "Nothing differs from the defaults.", cls="sv-dim"))
    elif group in groups() and not asked:
        st.html(el("p", groups()[group], ".", cls="sv-dim sv-why"))
    for row in range(0, len(found), COLUMNS):
        for cell, each in zip(st.columns(COLUMNS), found[row : row + COLUMNS], strict=False):
            with cell:
                field(draft, each, problems.get(each.name) or problems.get(each.group, ""), labels)


def matching(asked: str) -> list[Option]:
    """Options whose name, group or description holds every word that was typed; those named so first."""
    words = asked.lower().replace("-", "_").split()
    texts = {each: f"{each.key} {each.description}".lower() for each in _fields()}
    found = [each for each, text in texts.items() if all(word in text or word.replace("_", " ") in text for word in words)]
    return sorted(found, key=lambda each: not all(word in each.name for word in words))


def _fields() -> list[Option]:
    return [each for each in options() if each.name not in CHOSEN_ELSEWHERE]


def _of_group(group: str, changed: Sequence[str]) -> list[Option]:
    if group == FIRST:
        return [option(name) for name in ESSENTIAL]
    if group == CHANGED:
        return [option(name) for name in changed]
    return [each for each in _fields() if each.group == group]


def field(draft: Draft, each: Option, problem: str, labels: Sequence[str]) -> None:
    """One option: the widget of its kind, and below it the error, or the default and what may be given."""
    key = f"option {draft.generation} {each.name}"
    shown, disabled = each.write(draft.shown(each.name)), draft.fixed(each.name)
    description = each.description[0].upper() + each.description[1:]
    help = f"{description}. Allowed: {each.allowed}.".replace("*", "\\*")
    choices = list(labels) if each.name == "label" and labels else list(each.choices)

    def take() -> None:
        raw = st.session_state[key]
        draft.enter(each.name, raw if isinstance(raw, bool) else each.type(str(raw)))

    if each.is_flag and not each.optional:
        st.toggle(each.name, shown == "on", key=key, help=help, disabled=disabled, on_change=take)
    elif each.is_flag or choices:
        known = [*([NONE] if each.optional else []), *(("on", "off") if each.is_flag else choices)]
        known = known if shown in known else [shown, *known]
        st.selectbox(each.name, known, known.index(shown), key=key, help=help, disabled=disabled, on_change=take)
    else:
        st.text_input(each.name, shown, key=key, help=help, disabled=disabled, on_change=take, live=True)
    st.html(note(draft, each, problem))


def note(draft: Draft, each: Option, problem: str) -> Html:
    """What stands below a field."""
    if problem:
        return el("p", problem, cls="sv-field-error", role="alert", data_field=each.name)
    if draft.fixed(each.name):
        return el("p", "stays as in the run", cls="sv-field-note")
    before, default = each.write(draft.untouched(each.name)), each.write(each.default)
    if each.name in draft.typed:
        return el("p", el("strong", "changed"), f" from {before}", cls="sv-field-note")
    text = f"default {default}" if before == default else f"from {draft.source}; default {default}"
    return el("p", text, cls="sv-field-note")
