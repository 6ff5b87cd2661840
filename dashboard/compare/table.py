"""The table of results as the page shows it: each run's line in front, numbers formatted, heads explained."""

import base64
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.compare.curves import Group
from dashboard.compare.outcomes import title
from dashboard.compare.view import Ref
from dashboard.runs.colours import RunStyle
from shared.panels import metric_of

LINE = "Line"
DASHES = {"dash": "7 4", "dot": "2 3", "dashdot": "8 3 2 3"}
KINDS = {
    "final": "The newest value.",
    "best": "The best value of the run.",
    "best at": "The step of the best value.",
    "sd": "Standard deviation of the final values over seeds.",
}


def frame(results: pd.DataFrame, groups: Sequence[Group], dark: bool) -> pd.DataFrame:
    """The results with a picture of each run's line as the first column."""
    results.insert(0, LINE, [_picture(group.style, dark) for group in groups])
    return results


def _picture(style: RunStyle, dark: bool) -> str:
    dashes = f' stroke-dasharray="{DASHES[style.dash]}"' if style.dash in DASHES else ""
    line = f'<line x1="1" y1="14" x2="27" y2="14" stroke="{style.colour(dark)}" stroke-width="3"{dashes}/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 28 28" width="28" height="28">{line}</svg>'
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def columns(results: pd.DataFrame, refs: Sequence[Ref]) -> dict[str, Any]:
    """How each column is shown, of results of these metrics."""
    of = {title(ref): ref for ref in refs}
    found: dict[str, Any] = {
        LINE: st.column_config.ImageColumn("", width=60, pinned=True),
        "Run": st.column_config.TextColumn(pinned=True, width="medium"),
        "Steps": st.column_config.NumberColumn(format="localized"),
    }
    for name in results.columns:
        metric, _, kind = str(name).rpartition(" · ")
        if metric in of:
            whole = kind == "best at"
            found[name] = st.column_config.NumberColumn(
                format="localized" if whole else "%.4g", help=f"{KINDS[kind]} {metric_of(*of[metric]).help}", width="small" if whole else None,
            )  # fmt: skip
    return found
