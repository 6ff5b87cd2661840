"""Tables of the Reconstruction page: sortable, with units; a click on a patient opens the record."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.reconstruction.events import Events
from dashboard.widgets import plain

TABLE = "reconstruction-patients"


def variable_frame(errors: pd.DataFrame, events: Events) -> pd.DataFrame:
    """Figures by variable as they are shown, the worst first, those without a reconstruction last."""
    frame = errors.sort_values("rmse_std", ascending=False, na_position="last").reset_index()
    frame["unit"] = [events.unit(name) for name in frame["variable"]]
    frame["within"] *= 100
    return frame[["variable", "events", "median", "rmse", "bias", "unit", "median_std", "rmse_std", "bias_std", "within"]]


def variable_table(errors: pd.DataFrame, events: Events, height: int) -> None:
    """Errors of each variable in its unit and in standard deviations."""
    column = st.column_config

    def figure(label: str, width: int, form: str, help: str) -> Any:
        return column.NumberColumn(label, width=width, format=form, help=help)

    own, std = "in the variable's unit", "in standard deviations of the variable"
    st.dataframe(
        variable_frame(errors, events), hide_index=True, height=height, placeholder="–",
        column_config={
            "variable": column.TextColumn("Variable", pinned=True, width=92),
            "events": figure("n", 58, "localized", "Values in this snapshot."),
            "median": figure("Median", 74, "%.3g", f"Median of |reconstructed - observed|, {own}."),
            "rmse": figure("RMSE", 70, "%.3g", f"Root of the mean squared error, {own}."),
            "bias": figure("Bias", 74, "%.3g", f"Mean of reconstructed - observed, {own}: above 0 it is reconstructed too high."),
            "unit": column.TextColumn("Unit", width=92, help="Of the three columns before."),
            "median_std": figure("Median σ", 74, "%.2f", f"Median |error|, {std}."),
            "rmse_std": figure("RMSE σ", 70, "%.2f", f"RMSE, {std}. Above 1: worse than always predicting the training mean."),
            "bias_std": figure("Bias σ", 66, "%.2f", f"Bias, {std}."),
            "within": figure("In 95 %", 70, "%.1f %%", "Share of values inside the predicted central 95 % interval."),
        },
    )  # fmt: skip


def patient_frame(table: pd.DataFrame, outcomes: Mapping[str, float]) -> pd.DataFrame:
    """Patients as they are shown, in the order of `table`; an outcome that is not known is missing."""
    frame = table.reset_index()
    frame["outcome"] = pd.Series([outcomes.get(stay) for stay in frame["stay"]], dtype="Float64")
    frame["within"] *= 100
    return frame[["stay", "outcome", "events", "hours", "error", "rmse", "within", "worst"]]


def _clicked(order: Sequence[str], choose: Callable[[str], None]) -> None:
    rows = st.session_state[TABLE].selection.rows
    if rows:
        choose(order[rows[0]])


def patient_table(table: pd.DataFrame, outcomes: Mapping[str, float], label: str | None, choose: Callable[[str], None]) -> None:
    """One line for each patient; `choose` is told of a click. `label` is the outcome's name."""
    column = st.column_config
    st.dataframe(
        patient_frame(table, outcomes), hide_index=True, height=min(38 + 35 * len(table), 318), placeholder="–", key=TABLE,
        on_select=lambda: _clicked(list(table.index), choose), selection_mode="single-row",
        column_config={
            "stay": column.TextColumn("Stay", pinned=True),
            "outcome": column.NumberColumn("Outcome", format="%d", help=f"{plain(label or 'The label that the run predicts')}: 1 or 0."),
            "events": column.NumberColumn("Values", format="localized", help="In this snapshot, which may leave out some sets."),
            "hours": column.NumberColumn("Until", format="%.1f h", help="Hours from admission to the last value shown."),
            "error": column.NumberColumn("Mean |error|", format="%.3f", help="In standard deviations of each variable."),
            "rmse": column.NumberColumn("RMSE", format="%.3f", help="In standard deviations: one value far off counts more than in the mean."),
            "within": column.NumberColumn("In 95 %", format="%.1f %%", help="Share of values inside the predicted central 95 % interval."),
            "worst": column.TextColumn("Worst variable", help="With the largest mean |error| in standard deviations."),
        },
    )  # fmt: skip
