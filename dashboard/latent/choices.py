"""What the reader has chosen on the Latent space page. The address holds it.

Where no dimension was chosen, the session keeps the one that it showed first.
"""

from collections.abc import Mapping, Sequence

import streamlit as st

from dashboard.latent.data import Source
from dashboard.latent.figures import MOST_FOLLOWED
from dashboard.widgets import plain
from shared.latents import Of

SOURCE, OF, PLANE, COLOUR, DIMENSION, PATIENT, ORDER, ALL = "source", "of", "plane", "colour", "dim", "patient", "order", "all"
"""Names in the address."""
TRAINING = "training"
NEWEST = "newest"


def key_of(name: str) -> str:
    """Of a widget."""
    return f"latent-{name}"


def tell(name: str, default: object = None) -> None:
    """Write what a widget holds to the address; what is the default anyway is left out."""
    value = st.session_state[key_of(name)]
    if value in (None, default, [], False):
        st.query_params.pop(name, None)
    else:
        st.query_params[name] = "1" if value is True else value if isinstance(value, list) else str(value)


def hold(name: str, known: Sequence[str], default: str) -> str:
    """The value of the address, put into the widget; `default` where the address has none that is known."""
    asked = st.query_params.get(name)
    value = asked if asked is not None and asked in known else default
    st.session_state[key_of(name)] = value
    return value


def segments(label: str, name: str, options: Mapping[str, str], default: str, help: str) -> str:
    """A choice of few."""
    value = hold(name, list(options), default)
    st.segmented_control(
        label, list(options), key=key_of(name), format_func=lambda key: options.get(key, key), required=True,
        on_change=tell, args=(name, default), help=help,
    )  # fmt: skip
    return value


def choose_of(has_states: bool) -> Of:
    """Latents or states."""
    options = {"latents": "Latents", "states": "States"} if has_states else {"latents": "Latents"}
    found = segments(
        "Points are", OF, options, "latents",
        "Latents: the posterior mean of each set of measurements, by itself. States: what the causal transformer has made of the patient up "
        "to that set; only stays that are decoded have one."
        + ("" if has_states else "\n\nThis snapshot holds no states: the model has no sequence part, or an older release wrote it."),
    )  # fmt: skip
    return "states" if found == "states" else "latents"


def choose_plane(possible: bool) -> str:
    """PCA or UMAP."""
    return segments(
        "Map by", PLANE, {"pca": "PCA", "umap": "UMAP"} if possible else {"pca": "PCA"}, "pca",
        "PCA: a straight view along the two directions of largest variance; distances can be read as they are. UMAP: keeps who is "
        "nearest to whom; sizes of groups and distances between them mean little. It is worked out beside the dashboard and kept with the run.",
    )  # fmt: skip


def choose_source(training: Sequence[Source], checkpoints: Sequence[Source]) -> Source:
    """The snapshot or checkpoint of the address, else the newest snapshot, which is then followed. There has to be one."""
    known = {source.key: source for source in (*training, *checkpoints)}
    asked = st.query_params.get(SOURCE)
    newest = training[-1] if training else checkpoints[-1]
    source = known.get(asked or "", newest)
    if asked and asked not in known:
        st.caption(f"{plain(asked)} is not among the snapshots (long runs are thinned): this is the newest.")
    if checkpoints:
        _choose_kind(training, checkpoints, source)
    if source.step is not None and len(training) > 1:
        _slide(training, source)
    return source


def _choose_kind(training: Sequence[Source], checkpoints: Sequence[Source], source: Source) -> None:
    words = {one.key: one.label.capitalize() for one in checkpoints} | ({TRAINING: "Snapshots of training"} if training else {})
    st.session_state[key_of("kind")] = TRAINING if source.checkpoint is None else source.key
    st.selectbox(
        "Made from", [TRAINING, *(one.key for one in checkpoints)] if training else list(words), key=key_of("kind"),
        format_func=lambda key: words.get(key, key), on_change=_kind_chosen, width=420,
        help="Snapshots are written at every evaluation of the probe set; a checkpoint when it is looked into (Checkpoints page).",
    )  # fmt: skip


def _kind_chosen() -> None:
    chosen = st.session_state[key_of("kind")]
    if chosen == TRAINING:
        st.query_params.pop(SOURCE, None)
    else:
        st.query_params[SOURCE] = chosen


def _slide(training: Sequence[Source], source: Source) -> None:
    """The stop at the right end keeps its value when a snapshot is added: a browser that has not heard of it yet, and sends what it
    holds along with something else, chooses nothing by that."""
    keys = {one.key: f"{one.step:,}" for one in training} | {NEWEST: NEWEST}
    st.session_state[key_of(SOURCE)] = source.key if st.query_params.get(SOURCE) == source.key else NEWEST
    st.select_slider(
        "Snapshot after step", list(keys), key=key_of(SOURCE), format_func=lambda key: keys.get(key, key),
        on_change=tell, args=(SOURCE, NEWEST),
        help="Through training, with the arrow keys too. At its right end the page follows the run to each new snapshot.",
    )  # fmt: skip


def choose_colour(options: Mapping[str, str]) -> str:
    """What points are coloured by."""
    value = hold(COLOUR, list(options), next(iter(options)))
    st.selectbox(
        "Colour by", list(options), key=key_of(COLOUR), format_func=lambda key: options.get(key, key),
        on_change=tell, args=(COLOUR, next(iter(options))), width=320,
        help="Of a variable: its last value known at that time. Colours span the 2nd to the 98th percentile; what is not known is grey.",
    )  # fmt: skip
    return value


def choose_order() -> str:
    """Of the dimensions in the correlation heatmap."""
    orders = {"similarity": "By similarity", "activity": "By activity", "number": "By number"}
    return segments(
        "Order of the correlations", ORDER, orders, "similarity", "Blocks stand together by similarity; see the chart's guide."
    )


def choose_dimension(run: str, dimensions: int, most_active: int) -> int:
    """A latent dimension, counted from 0 over all levels: that of the address, else the one that was most active when the session
    first looked at the run. It stays while snapshots come, so that colours can be compared."""
    default = st.session_state.setdefault(f"{key_of(DIMENSION)} of {run}", most_active)
    try:
        asked = int(st.query_params.get(DIMENSION, default))
    except ValueError:
        asked = default
    value = asked if 0 <= asked < dimensions else min(default, dimensions - 1)
    st.session_state[key_of(DIMENSION)] = value
    st.number_input(
        "Dimension", 0, dimensions - 1, key=key_of(DIMENSION), on_change=tell, args=(DIMENSION, default), width=130,
        help="For the colour by dimension, and for the curves of followed patients. At first the most active one.",
    )  # fmt: skip
    return value


def followed(known: Sequence[str]) -> list[str]:
    """Patients of the address that this snapshot has."""
    there = set(known)
    return [stay for stay in dict.fromkeys(st.query_params.get_all(PATIENT)) if stay in there][:MOST_FOLLOWED]


def choose_patients(known: Sequence[str], chosen: Sequence[str]) -> None:
    """Whose way over the map is drawn."""
    st.session_state[key_of(PATIENT)] = list(chosen)
    st.multiselect(
        "Patients followed", list(known), key=key_of(PATIENT), on_change=tell, args=(PATIENT,), max_selections=MOST_FOLLOWED,
        placeholder="type an id, click a point, or lasso an area", help=f"Up to {MOST_FOLLOWED}: their sets in the order of time, over the map.",
    )  # fmt: skip


def toggle_patient(stay: str, chosen: Sequence[str]) -> None:
    """Follow a patient, the oldest making room, or no longer."""
    others = [one for one in chosen if one != stay]
    st.query_params[PATIENT] = others if stay in chosen else [*others, stay][-MOST_FOLLOWED:]


def all_points() -> bool:
    """Whether every point is drawn."""
    return st.query_params.get(ALL) == "1"


def choose_all(points: int, most: int) -> None:
    """A switch between a sample of the points and all of them."""
    st.session_state[key_of(ALL)] = all_points()
    st.toggle(
        f"Draw all {points:,} points", key=key_of(ALL), on_change=tell, args=(ALL,),
        help=f"At first a fixed random sample of {most:,} is drawn, which keeps lasso and zoom quick. Counts are of all points.",
    )  # fmt: skip
