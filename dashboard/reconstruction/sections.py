"""The parts of the Reconstruction page, each under its heading. What they draw is made elsewhere; here it is laid out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard.charts import Look
from dashboard.components import chart_grid, picture
from dashboard.formats import number
from dashboard.reconstruction import calibration, choices, figures
from dashboard.reconstruction import record as records
from dashboard.reconstruction.events import Events, Source, newest, read_history, read_outcomes
from dashboard.reconstruction.presence import Presence, reliability, skill
from dashboard.reconstruction.tables import patient_table, variable_table
from dashboard.reconstruction.words import HELP, brief, missing_presence, notes, unread
from dashboard.widgets import el
from shared import reconstruction_stats as stats
from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import read_status

FIRST_VARIABLES = 6
"""Charts over training and rows of a record when nothing was chosen: the variables with the most values."""


@dataclass(frozen=True)
class Shown:
    """A snapshot that could be read, and what goes with it."""

    layout: RunLayout
    source: Source
    events: Events
    presence: Presence | None

    @cached_property
    def errors(self) -> pd.DataFrame:
        """Figures by variable, see `stats.by_variable`."""
        return stats.by_variable(self.events.frame)

    @cached_property
    def modelled(self) -> list[str]:
        """Variables with a reconstruction, those with the most values first."""
        errors = self.errors[self.errors["modelled"] > 0]
        return [str(name) for name in errors.sort_values("modelled", ascending=False, kind="stable").index]

    @property
    def chosen(self) -> list[str]:
        """Variables of the charts over training."""
        return choices.chosen_variables(self.modelled, self.modelled[:FIRST_VARIABLES])

    def chosen_for(self, own: pd.DataFrame) -> list[str]:
        """Variables of a patient's record: where none was chosen, those that the patient has most values of."""
        counts = own.loc[own["reconstructed"].notna(), "variable"].astype(str).value_counts()
        return choices.chosen_variables(self.modelled, list(counts.index[:FIRST_VARIABLES]))


def look() -> Look:
    """Of the reader's theme."""
    return Look(dark=st.context.theme.type == "dark")


def heading(title: str, subtitle: str) -> None:
    """Of a section."""
    st.html(el("h2", title, el("small", subtitle), cls="sv-section"))


def card(key: str, title: str, figure: go.Figure, help: str, newest: str = "", pick: bool = False) -> dict[str, Any]:
    """A chart; redrawn only when the figure itself is another one."""
    return picture(key, title, figure.to_json(validate=False), help, newest, pick)


def option(layout: RunLayout, group: str, name: str) -> str | None:
    """An option of the run; None where its run.json does not say."""
    info = read_status(layout).info
    options = info.config.get(group) if info else None
    value = options.get(name) if isinstance(options, dict) else None
    return None if value is None else str(value)


def summary(shown: Shown, problems: Sequence[str]) -> None:
    """The snapshot in brief, and what is missing from it."""
    decoder = option(shown.layout, "model", "decoder")
    st.html(brief(shown.events, shown.errors, shown.presence))
    st.html(notes(shown.events, shown.errors, problems, decoder))


def by_variable(shown: Shown) -> None:
    """Ranking and table."""
    errors = shown.errors
    heading("Error by variable", f"{shown.source.label}: what gets through the latent, and what does not")
    left, right = st.columns([4, 7], gap="small")
    with left:
        ranked = card("ranking", "Against predicting the mean", figures.ranking(errors, look()), HELP["ranking"], pick=True)
        toggled(chart_grid("ranking", [ranked], 1), shown.chosen)
    with right:
        variable_table(errors, shown.events, height=ranked_height(errors))


def ranked_height(errors: pd.DataFrame) -> int:
    """Of a table beside the ranking, in pixels."""
    return int(min(max(130 + 18 * len(errors), 240), 900))


def toggled(picked: dict[str, Any] | None, chosen: list[str]) -> None:
    """Add or take out the variable that was clicked."""
    if picked and picked["how"] == "click" and picked["points"]:
        choices.toggle_variable(str(picked["points"][0]), chosen)
        st.rerun()


def over_training(shown: Shown, found: Sequence[Source]) -> None:
    """Errors of the chosen variables over all snapshots; reading those of a long run the first time takes a second or two."""
    with st.spinner("Reading the snapshots of all steps", show_time=True):
        history = read_history(found)
    chosen = shown.chosen
    heading("Over training", f"{len(history.steps)} snapshots")
    if history.problems:
        st.html(unread(history.problems))
    choices.choose_variables("over", sorted(shown.modelled))
    figure = figures.over_training(history, chosen, look(), shown.source.step)
    picked = chart_grid("over", [card("over", "RMSE", figure, HELP["over"], pick=True)], 1)
    if picked and picked["how"] == "click" and picked["points"]:
        choices.look_at(int(picked["points"][0]), newest(found))
        st.rerun()
    cards = []
    for place, name in enumerate(chosen):
        unit = shown.events.unit(name)
        last = history.of(name, "median")[-1:] if len(history.steps) else np.empty(0)
        known_last = f"{number(float(last[0]), 3)} {unit}" if len(last) and np.isfinite(last[0]) else ""
        figure = figures.unit_over_training(history, name, unit, place, look())
        cards.append(card(f"unit-{place}", f"{name}: median |error|", figure, HELP["unit"], known_last))
    chart_grid("units", cards, 3)


@st.fragment
def errors(shown: Shown) -> None:
    """Distribution, time, frequency and calibration, of all variables or of one."""
    heading("Distribution and calibration", "how large errors are, when, and whether the decoder knows")
    frame = shown.events.frame
    focus = choices.choose_focus(sorted(shown.modelled))
    own = frame if focus is None else frame[frame["variable"] == focus]
    theme, z = look(), stats.z_scores(own)
    of = f"{focus}, " if focus else ""
    values = f"{of}{int(own['error'].notna().sum()):,} values"
    spread = stats.predicted_spread(frame)[(frame["variable"] == focus).to_numpy()] if focus else stats.predicted_spread(frame)
    chart = figures.distribution(own["error_in_std"].to_numpy(float), spread, theme)
    often = figures.by_frequency(shown.errors, theme)
    picked = chart_grid(
        "errors",
        [
            card("distribution", "Distribution of errors", chart, HELP["distribution"], values),
            card("by-time", "By time since admission", figures.by_time(stats.by_time(own), theme), HELP["time"], values),
            card("by-frequency", "By how often it is measured", often, HELP["frequency"], "all variables", True),
        ],
        3,
    )  # fmt: skip
    toggled(picked, shown.chosen)
    if not shown.events.has_std:
        return  # said in the summary
    chart_grid(
        "calibration",
        [
            card("coverage", "Coverage of intervals", calibration.coverage(stats.coverage(z), theme), HELP["coverage"], values),
            card("pit", "PIT", calibration.pit(stats.pit(z), theme), HELP["pit"], values),
            card("z", "Standardised errors", calibration.z_histogram(z, theme), HELP["z"], values),
        ],
        3,
    )


@st.fragment
def patients(shown: Shown) -> None:
    """The worst patients, and the record of one."""
    table = stats.by_patient(shown.events.frame)
    heading("Patients", f"{len(table)} of the probe set, the worst reconstructed first")
    if table.empty:
        choices.say("No patient has a reconstructed value.")
        return
    try:
        outcomes = read_outcomes(shown.source.latents)
    except InputError as error:
        outcomes = {}
        choices.say(f"Outcomes are not shown: {error}.")
    patient_table(table, outcomes, option(shown.layout, "data", "label"), choices.set_patient)
    record(shown, table)


def record(shown: Shown, table: pd.DataFrame) -> None:
    """Observed against reconstructed, and what was expected, for one patient."""
    left, right = st.columns([1, 3])
    with left:
        patient = choices.choose_patient(list(table.index))
    own = records.of_patient(shown.events, patient)
    chosen = shown.chosen_for(own)
    with right:
        choices.choose_variables("record", sorted(shown.modelled))
    absent = [name for name in chosen if not (own["variable"] == name).any()]
    if absent:
        choices.say(f"Not among this patient's values in the snapshot: {', '.join(absent)}.")
    cards = [
        card(
            "record",
            f"Record of {patient}",
            records.record(own, shown.events, chosen, look()),
            HELP["record"],
            f"{len(own):,} values",
        )
    ]
    if shown.presence is not None:
        part = shown.presence.of(patient)
        cards.append(
            card(
                "presence",
                "Expected and measured",
                records.presence_map(part, look()),
                HELP["presence"],
                f"{len(part.hour)} sets",
            )
        )
    chart_grid("record", cards, 1)


def presence(shown: Shown) -> None:
    """Whether the decoder knows what is measured when, over all patients."""
    heading("Presence", "which variables the decoder expected in a set")
    found = shown.presence
    if found is None:
        st.html(missing_presence(shown.source.path, shown.events))
        return
    height = calibration.presence_height(len(found.names))
    calibrated = calibration.reliability(reliability(found), look(), height)
    sets = f"{len(found.hour):,} sets of {len(found.names)} variables"
    chart_grid(
        "presence",
        [
            card("reliability", "Calibration of presence", calibrated, HELP["reliability"], sets),
            card("skill", "Skill by variable", calibration.presence_skill(skill(found), look()), HELP["skill"], sets),
        ],
        2,
    )
