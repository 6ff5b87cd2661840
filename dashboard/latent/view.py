"""The parts of the Latent space page, each drawn from what was chosen."""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard.charts import Look
from dashboard.components import chart_grid
from dashboard.formats import number
from dashboard.latent import choices, words
from dashboard.latent.colour import Colouring, colouring, error_by_set
from dashboard.latent.data import Kept, Source, posterior_of, version
from dashboard.latent.dims import active, activity_figure, correlated, correlation_figure, kl_figure
from dashboard.latent.figures import Trail, map_figure, over_time_figure, trails
from dashboard.latent.plane import Plane
from dashboard.widgets import el
from shared.latents import LatentSets, Of
from shared.layout import RunLayout

MOST_DRAWN = 2000
CAUGHT, CLEARED = "latent caught", "latent cleared"
"""In the session: who was caught, and how often that was cleared."""
FIGURES = Kept(64)
FIRST = 3
"""Patients of an area that are followed at a click: more are a tangle."""


@dataclass(frozen=True)
class Shown:
    """What the page is about."""

    layout: RunLayout
    source: Source
    sets: LatentSets
    of: Of
    look: Look
    label: str
    """Of the outcome"""

    @property
    def name(self) -> str:
        """Of the run."""
        return self.layout.root.name

    @property
    def version(self) -> Hashable:
        """Changes when anything that is drawn from files does."""
        files = (self.source.latents, self.source.posterior, self.source.reconstruction, self.layout.observed)
        return tuple(version(path) for path in files)


def sample(points: int, kept: np.ndarray) -> np.ndarray:
    """Places of at most `MOST_DRAWN` points, the same ones each time, those `kept` (a mask) among them."""
    if points <= MOST_DRAWN:
        return np.arange(points)
    chosen = np.random.default_rng(0).permutation(points)[:MOST_DRAWN]
    return np.union1d(chosen, np.flatnonzero(kept))


def most_active(sets: LatentSets) -> int:
    """The dimension whose mean varies most."""
    variance = np.nan_to_num(sets.mu.var(axis=0))
    return int(variance.argmax()) if len(variance) else 0


def draw_map(shown: Shown, plane: Plane, by: str, colour: str, dimension: int, stays: Sequence[str]) -> None:
    """The map, its legend in words, and what was picked on it."""
    sets = shown.sets
    values = colouring(colour, sets, shown.layout, shown.source, shown.label, dimension)
    of_point = sets.stay[plane.index]
    followed = trails(stays, sets, plane, dimension)
    everything, cleared = choices.all_points(), st.session_state.get(CLEARED, 0)
    drawn = np.arange(len(plane.index)) if everything else sample(len(plane.index), np.isin(of_point, stays))
    picked = chart_grid(
        "latent-map",
        [_map_card(shown, plane, by, values, drawn, followed, (colour, dimension, tuple(stays), everything, cleared))],
        1,
    )
    finite = len(plane.index)
    missing = int(np.count_nonzero(~np.isfinite(values.values[plane.index])))
    left_out = len(sets.row) - finite if shown.of == "latents" else 0
    st.html(words.summary(finite, len(set(of_point.tolist())), missing, left_out, [plane.note]))
    if finite > MOST_DRAWN:
        choices.choose_all(finite, MOST_DRAWN)
    _take(picked, stays)


def _map_card(
    shown: Shown, plane: Plane, by: str, values: Colouring, drawn: np.ndarray, followed: list[Trail], chosen: tuple[Any, ...]
) -> dict[str, Any]:
    identity = f"{shown.name}:{shown.of}:{by}:{'checkpoint' if shown.source.step is None else 'training'}"
    newest = (
        f"{shown.source.label} · {len(drawn):,} of {len(plane.index):,} points drawn"
        if len(drawn) < len(plane.index)
        else shown.source.label
    )
    idle = shown.of == "latents" and not active(shown.sets).any()
    revision = (identity, shown.version, chosen, shown.look, hash(plane.xy.tobytes()))
    return {
        "key": "latent-map",
        "title": f"{by.upper()} of {'latents' if shown.of == 'latents' else 'transformer states'}, by {values.label}",
        "newest": newest,
        "help": words.MAP[by] + words.PICK + words.DIAGNOSIS,
        "revision": str(hash(revision)),
        "figure": FIGURES.once(
            revision,
            lambda: (
                map_figure(shown.look, plane, drawn, shown.sets, values, followed, identity, idle)
                .update_layout(selectionrevision=f"cleared {chosen[-1]} times")
                .to_json(validate=False)
            ),
        ),
        "pick": True,
    }


def _take(picked: dict[str, Any] | None, stays: Sequence[str]) -> None:
    """A click follows a patient; an area lists those in it."""
    if not picked or picked.get("card") != "latent-map":
        return
    found = [stay for stay in picked.get("points", ()) if isinstance(stay, str)]
    if picked.get("how") == "click" and found:
        choices.toggle_patient(found[0], stays)
    elif picked.get("how") == "area":
        st.session_state[CAUGHT] = found
    st.rerun(scope="fragment")


def caught_table(shown: Shown, stays: Sequence[str]) -> None:
    """Patients in the area that was drawn around, those with most sets in it first; choosing lines follows them."""
    caught = Counter(st.session_state.get(CAUGHT) or ())
    if not caught:
        return
    sets = shown.sets
    frame = caught_frame(sets, error_by_set(sets, shown.source), caught)
    st.html(el("h2", "In the area", el("small", f"{len(frame):,} patients, {caught.total():,} points"), cls="sv-section"))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if st.button(f"Follow the first {FIRST}", help="Draws their way over the map, in the order of time."):
            st.query_params[choices.PATIENT] = frame["Patient"].head(FIRST).tolist()
            st.rerun(scope="fragment")
        if st.button("Clear"):
            st.session_state.pop(CAUGHT)
            st.session_state[CLEARED] = st.session_state.get(CLEARED, 0) + 1
            st.rerun(scope="fragment")
    event = st.dataframe(
        frame, hide_index=True, on_select="rerun", selection_mode="multi-row", height=min(38 + 35 * len(frame), 320),
        key=f"latent-table-{hash(tuple(sorted(caught.items())))}",
    )  # fmt: skip
    rows = event["selection"]["rows"]
    chosen = [str(frame["Patient"].iloc[row]) for row in rows][-choices.MOST_FOLLOWED :]
    if rows != st.session_state.get("latent rows") and chosen:
        st.session_state["latent rows"] = rows
        if chosen != list(stays):
            st.query_params[choices.PATIENT] = chosen
            st.rerun(scope="fragment")


def caught_frame(sets: LatentSets, errors: np.ndarray, caught: Counter[str]) -> pd.DataFrame:
    """One line for each patient."""
    rows = []
    for stay, inside in caught.most_common():
        own = sets.stay == stay
        outcome = sets.outcome[own]
        known = errors[own][np.isfinite(errors[own])]
        rows.append(
            {
                "Patient": stay,
                "Outcome": "not known" if not len(outcome) or np.isnan(outcome[0]) else f"{outcome[0]:g}",
                "Sets in the area": inside,
                "Sets of the patient": int(own.sum()),
                "Mean error (SD)": number(float(known.mean()), 3) if len(known) else "not decoded",
            }
        )
    return pd.DataFrame(rows)


def card(
    shown: Shown, key: str, title: str, newest: str, help: str, chosen: Hashable, make: Callable[[], go.Figure]
) -> dict[str, Any]:
    """A chart of the snapshot that is shown, made once for all who look at it."""
    revision = (key, shown.version, shown.look, chosen)
    figure = FIGURES.once(revision, lambda: make().to_json(validate=False))
    return {"key": key, "title": title, "newest": newest, "help": help, "revision": str(hash(revision)), "figure": figure}


def over_time(shown: Shown, plane: Plane, stays: Sequence[str], dimension: int) -> None:
    """One dimension over the stay of those who are followed."""
    followed = trails(stays, shown.sets, plane, dimension)
    if not followed:
        st.html(words.how_to_follow())
        return
    chart_grid("latent-time", [card(
        shown, "latent-time", f"Dimension {dimension} over the stay", shown.source.label, words.OVER_TIME, (shown.of, tuple(stays), dimension),
        lambda: over_time_figure(shown.look, followed, dimension, f"{shown.name}:{dimension}"),
    )], 1)  # fmt: skip


def dimensions(shown: Shown) -> None:
    """Activity, KL and correlation of the dimensions."""
    bars, square = st.columns(2, gap="small")
    with bars:
        posterior = posterior_of(shown.source.posterior)
        if posterior is None:
            st.caption("Activity and kinds of the dimensions are not known: the posterior snapshot of this step is missing.")
        else:
            active, total = int((posterior["kind"] == "active").sum()), float(posterior["kl"].sum())
            chart_grid("latent-dims", [
                card(shown, "latent-activity", "Activity of each dimension", f"{active:,} of {len(posterior):,} active", words.ACTIVITY, None,
                     lambda: activity_figure(shown.look, posterior, f"{shown.name}:activity")),
                card(shown, "latent-kl", "KL of each dimension", f"{number(total, 3)} nats in all", words.KL, None,
                     lambda: kl_figure(shown.look, posterior, f"{shown.name}:kl")),
            ], 1)  # fmt: skip
    with square:
        correlation(shown)


def correlation(shown: Shown) -> None:
    """How the means of the dimensions go together."""
    order: Any = choices.choose_order()
    dims, found = FIGURES.once(("correlated", shown.version, order), lambda: correlated(shown.sets, order))
    if len(dims) < 2:
        st.caption(
            "Fewer than two dimensions vary over the sets, so there is nothing to correlate: the posterior has collapsed, or is new."
        )
        return
    left_out, alive = shown.sets.mu.shape[1] - len(dims), active(shown.sets)[dims]
    among = np.abs(found - np.eye(len(found)))[np.ix_(alive, alive)]
    strongest = f"strongest {among.max():.2f}" if alive.sum() > 1 else "noise: no two dimensions are active"
    idle = int((~alive).sum())
    strongest += f" · grey: {idle:,} not active" if idle and alive.sum() > 1 else ""
    chart_grid("latent-correlation", [card(
        shown, "latent-correlation", "Correlation of the means", strongest + (f" · {left_out:,} dimensions left out" if left_out else ""),
        words.CORRELATION, order, lambda: correlation_figure(shown.look, dims, found, alive, f"{shown.name}:correlation:{order}"),
    )], 1)  # fmt: skip
