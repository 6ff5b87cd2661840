"""The parts of the Checkpoints page that look into one file, or at two: each redrawn by itself."""

from typing import Any, Literal

import streamlit as st

from dashboard.charts import Look
from dashboard.checkpoints.charts import change_figure, layers_of_distances, layers_of_norms, norm_figure
from dashboard.checkpoints.frames import difference_frame, tensor_frame
from dashboard.checkpoints.inside import Inside, Part
from dashboard.checkpoints.listing import Checkpoint
from dashboard.checkpoints.values import Difference, ask_difference, ask_norms
from dashboard.checkpoints.view import (
    AT_ONCE_S,
    address,
    folder_of,
    go,
    look_into,
    source,
    work,
)
from dashboard.checkpoints.widgets import difference_tiles, groups, parts_line, plural
from dashboard.commands import offer
from dashboard.components import chart_grid
from dashboard.formats import count
from dashboard.service import service
from dashboard.widgets import banner, el, plain
from shared.layout import RunLayout
from shared.reader import Health, read_status

ROWS = 14
"""Rows of a table that are seen at once."""
PART_LABELS: dict[str, Part | None] = {"Weights": "weights", "Optimizer": "optimizer", "Other": "other", "All": None}
NORM_HELP = (
    "Each row is a layer of the network, from top to bottom as the file has them. The dot is the root mean square of its weights, "
    "the diamond its largest weight.\n\nLayers of one kind should be of one order of magnitude. A layer far to the left has decayed "
    "or was never trained; a diamond far to the right of its dot is an outlier, which half precision may not hold (float16 ends at "
    "65,504). Values that are not finite are counted beside the name: such a checkpoint cannot be gone on with."
)
CHANGE_HELP = (
    "How far each layer's weights moved from a to b, relative to their size in a: 0.01 is one percent.\n\nDuring training layers "
    "move alike within a factor of ten or so. An encoder that stands still while the decoder moves is what the approach of a "
    "posterior collapse looks like; a layer with no change at all is frozen or not connected to the loss. Two networks that have "
    "nothing to do with each other are about 1.4 apart."
)


def resume_and_analyse(layout: RunLayout, one: Checkpoint, inside: Inside) -> None:
    """What can be done from here, with the command that does it."""
    status = read_status(layout)
    left, right = st.columns(2, gap="large")
    with left:
        st.html(el("h3", "Resume from here", cls="sv-ckpt-act"))
        if not inside.ours:
            st.caption("Another program wrote it, so there is nothing here to go on with. Its own trainer can.")
        elif not inside.settled:
            st.caption(
                "It was saved in the middle of a step and cannot be gone on with. Resuming the run takes the furthest that can:"
            )
            offer("Resume the run", ["train", "--resume_from_checkpoint", str(layout.root)], key="resume")
        else:
            st.caption(_resume_words(status.health, inside.step, status.heartbeat.step if status.heartbeat else None))
            offer("Resume from here", ["train", "--resume_from_checkpoint", str(layout.checkpoints / one.name)], key="resume")
    with right:
        st.html(el("h3", "Analyse this one", cls="sv-ckpt-act"))
        if not inside.ours:
            st.caption("Its network is not known here, so it cannot be evaluated; its tensors are shown below.")
            return
        stem = one.name.removesuffix(".ckpt")
        if layout.analysed("latents", stem).exists():
            st.caption("Done: Latent space and Reconstruction show it. Again, say after the data changed:")
        else:
            st.caption("Latents, posterior and reconstruction errors of the probe stays with these weights, for the pages Latent space and "
                       "Reconstruction. Trains nothing.")  # fmt: skip
        offer("Analyse this one", ["visualize", str(layout.checkpoints / one.name)], key="analyse")


def _resume_words(health: Health, step: int | None, reached: int | None) -> str:
    words = f"Training goes on in the same run from step {count(step)}, with its optimizer, schedule and place in the data."
    if step is not None and reached is not None and reached > step:
        words += f" Steps {step + 1:,} to {reached:,} are made again; their log, snapshots and checkpoints move to `discarded`."
    if health in (Health.RUNNING, Health.CREATED, Health.STALE):
        words = f"**The run is still training: stop it first, the command refuses otherwise.** {words}"
    return words


@st.fragment
def compare_with(run: str, chosen: str, look: Look) -> None:
    """The choice of a second checkpoint, also of another run, and what differs from the first."""
    here = folder_of(run)
    a = here[1].named(chosen) if here else None
    if a is None:
        return
    other = address().get("against_run", run)
    st.html(el("h2", "Difference", el("small", "from a to another checkpoint, b"), cls="sv-section"))
    b = _choose(run, chosen, other)
    if b is None:
        return
    (inside_a, _), (inside_b, problem) = look_into(a), look_into(b)
    if problem:
        st.html(banner("alarm", "b cannot be read.", problem))
    if inside_a is None or inside_b is None:
        return
    _settings(inside_a, inside_b)
    task = ask_difference(work(), source(a), source(b)).wait(AT_ONCE_S)
    if task.problem:
        st.html(banner("alarm", "The tensors cannot be compared.", task.problem))
    elif task.result is None:
        st.progress(task.share, text=f"Comparing tensors: {task.share:.0%}")
    else:
        _show_difference(inside_a, task.result, f"{source(a)[1]} {source(b)[1]}", look)


def _choose(run: str, chosen: str, other: str) -> Checkpoint | None:
    """Select boxes for b; the address says what they show."""
    names = service().summaries.names()
    found = folder_of(other)
    files = [one.name for one in found[1].checkpoints if one.identity and (other, one.name) != (run, chosen)] if found else []
    against = address().get("against")
    st.session_state["against_run"] = other
    st.session_state["against"] = against if against in files else None
    left, right = st.columns(2)
    left.selectbox("Run of b", names if other in names else [other, *names], key="against_run", on_change=_follow)
    right.selectbox(
        "Checkpoint b", files, key="against", on_change=_follow, placeholder="Choose one, or “compare” in the list above",
        help="Any checkpoint, also of another run: weights are matched by their names.",
    )  # fmt: skip
    if st.session_state.pop("difference chosen", False):
        st.rerun()
    if against is not None and against not in files:
        st.html(banner("info", "b is not there.", f"{other} has no checkpoint {against} to compare with.", "Choose another."))
    return found[1].named(against) if found and against in files else None


def _follow() -> None:
    run = st.session_state["against_run"]
    same = run == address().get("against_run", address().get("run"))
    go(against_run=run, against=st.session_state["against"] if same else None)
    st.session_state["difference chosen"] = True


def _settings(a: Inside, b: Inside) -> None:
    """Settings that are not the same in both."""
    known = a.hyperparameters.keys() | b.hyperparameters.keys()
    differing = [name for name in known if a.hyperparameters.get(name) != b.hyperparameters.get(name)]
    if differing:
        st.html(el("h3", f"Hyperparameters: {len(differing)} of {len(known)} differ", el("small", "a → b"), cls="sv-ckpt-act"))
        st.html(groups(a.hyperparameters, b.hyperparameters))
    else:
        words = (
            f"All {len(known)} hyperparameters are the same."
            if known
            else "Neither file says with which hyperparameters it was made."
        )
        st.html(el("p", words, cls="sv-dim"))


def _show_difference(a: Inside, found: Difference, identity: str, look: Look) -> None:
    st.html(difference_tiles(found))
    weights = {place.name: apart for place, apart in found.distances.items() if place.part == "weights"}
    layers = layers_of_distances(weights)
    if layers:
        card = {
            "key": "change", "title": "How far each layer moved", "newest": plural(len(layers), "layer"), "help": CHANGE_HELP,
            "revision": f"{identity} {look}", "figure": change_figure(layers, look, identity).to_json(validate=False),
        }  # fmt: skip
        chart_grid("change", [card], 1)
    part, search = _filters("difference")
    frame = difference_frame(a, found, part, search)
    st.dataframe(
        frame, hide_index=True, height=_height(len(frame)), key="difference-table",
        column_config={
            "tensor": st.column_config.TextColumn("Tensor", pinned=True),
            "fate": st.column_config.TextColumn("What became of it"),
            "relative": _figure("Relative change", "||a − b|| / ||a||; infinite where a is all zeros"),
            "distance": _figure("||a − b||", "Euclidean norm of the difference"),
            "largest": _figure("Largest change", "of a single value"),
            "values": st.column_config.NumberColumn("Values that differ", format="localized"),
            "shape": st.column_config.TextColumn("Shape"),
        },
    )  # fmt: skip


@st.fragment
def tensors(run: str, chosen: str, look: Look) -> None:
    """Names, shapes and norms of everything in the file."""
    here = folder_of(run)
    one = here[1].named(chosen) if here else None
    inside, _ = look_into(one)
    if one is None or inside is None:
        return
    st.html(el("h2", "Tensors", el("small", f"of a: {parts_line(inside)}"), cls="sv-section"))
    task = ask_norms(work(), source(one)).wait(AT_ONCE_S)
    if task.problem:
        st.html(banner("warning", "Norms cannot be computed.", task.problem))
    elif task.result is None:
        st.progress(task.share, text=f"Reading values: {task.share:.0%}")
    else:
        layers = layers_of_norms({place.name: size for place, size in task.result.items() if place.part == "weights"})
        broken = sum(layer.broken for layer in layers)
        newest = plural(len(layers), "layer") + (f", {plural(broken, 'value')} not finite" if broken else "")
        card = {
            "key": "norms", "title": "Size of the weights by layer", "newest": newest, "help": NORM_HELP,
            "revision": f"{inside.identity} {look}",
            "figure": norm_figure(layers, look, str(inside.identity)).to_json(validate=False),
        }  # fmt: skip
        chart_grid("norms", [card], 1)
    part, search = _filters("tensors")
    frame = tensor_frame(inside, task.result, part, search)
    st.dataframe(frame, hide_index=True, height=_height(len(frame)), key="tensor-table", column_config=NORM_COLUMNS)
    if search and frame.empty:
        st.caption(plain(f"No tensor's name holds {search!r}."))


def _filters(key: str) -> tuple[Part | None, str]:
    """Which part of the checkpoint, and words that names have to hold."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        label = st.segmented_control(
            "Part", list(PART_LABELS), default="Weights", required=True, key=f"{key}-part", label_visibility="collapsed"
        )
        search = st.text_input(
            "Search names", key=f"{key}-search", placeholder="Search names", label_visibility="collapsed", width=280
        )
    return PART_LABELS[label or "Weights"], search or ""


def _height(rows: int) -> int | Literal["content"]:
    return "content" if rows <= ROWS else 36 + 33 * ROWS


def _figure(label: str, help: str) -> Any:
    return st.column_config.NumberColumn(label, help=help, format="%.4g")


NORM_COLUMNS = {
    "tensor": st.column_config.TextColumn("Tensor", pinned=True),
    "shape": st.column_config.TextColumn("Shape"),
    "type": st.column_config.TextColumn("Type"),
    "values": st.column_config.NumberColumn("Values", format="localized"),
    "rms": _figure("RMS", "Root mean square of the finite values"),
    "l2": _figure("L2 norm", "Square root of the sum of squares"),
    "largest": _figure("Largest", "Largest magnitude"),
    "mean": _figure("Mean", "Mean of the finite values"),
    "zeros": st.column_config.NumberColumn("Zeros", format="%.1f %%", help="Share of values that are exactly 0"),
    "not finite": st.column_config.NumberColumn("NaN, ∞", help="Number of values that are not finite"),
}


def hyperparameters(one: Checkpoint | None) -> None:
    """With which settings it was made, and how far training had come."""
    inside, _ = look_into(one)
    if inside is None:
        return
    st.html(el("h2", "Hyperparameters", el("small", "of a, as the file itself has them"), cls="sv-section"))
    if inside.hyperparameters:
        st.html(groups(inside.hyperparameters))
    else:
        words = "The file has none: its program saved only weights, or keeps them under a name that is not known here."
        st.html(el("p", words, cls="sv-dim"))
    if inside.state:
        about = el("small", "counters and optimizer settings at the time of saving")
        st.html(el("h2", "State of training", about, cls="sv-section"))
        st.html(groups(inside.state))
