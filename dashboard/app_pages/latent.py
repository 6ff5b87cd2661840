"""The latents of a run's fixed probe patients as a map: over training, coloured, patient by patient; and their dimensions.

All that is chosen stands in the address: `run`, `source` (none: the newest snapshot, followed), `of`, `plane`, `colour`, `dim`,
`patient`s and `order`. An area caught with the lasso is the session's own.
"""

import streamlit as st

from dashboard.charts import Look
from dashboard.checkpoints.listing import file_names
from dashboard.choosing import choose_run
from dashboard.commands import offer
from dashboard.components import listen
from dashboard.landing import gone, landing
from dashboard.latent import choices, view, words
from dashboard.latent.colour import choices as colours
from dashboard.latent.colour import why_no_variables
from dashboard.latent.data import Source, analysed, input_of, sets_of, snapshots
from dashboard.latent.plane import Plane, pca, umap_known, umap_plane
from dashboard.live.header import GONE, strip
from dashboard.runs.loading import folder_token, resolve_run
from dashboard.service import SNAPSHOT_FOLDERS, service
from dashboard.widgets import el, plain
from dashboard.work import Task, unavailable
from shared.embedding import LEAST_POINTS
from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import read_status


def main() -> None:
    """The page."""
    name = choose_run()
    if name is None:
        follow_list()
        return
    space(name)


@st.fragment
def follow_list() -> None:
    """No run at all: go on when one appears."""
    hub = service()
    listen("first", seen=hub.revisions.current(""))
    if hub.summaries.names():
        st.rerun()
    st.html(landing(hub.runs))


@st.fragment
def space(name: str) -> None:
    """Everything about one run, drawn anew when it has another snapshot or layout."""
    layout = resolve_run(service().runs, name)
    listen(
        "latent", name, watch="snapshots", seen=folder_token(layout.root, *SNAPSHOT_FOLDERS) if layout else GONE, every_ms=500
    )
    if layout is None:
        st.html(gone(name, service().runs))
        return
    wrong = strip(service().store.snapshot(name))
    if wrong:
        st.html(wrong)
    training, checkpoints = snapshots(layout), analysed(layout)
    if not training and not checkpoints:
        none_yet(layout)
        return
    source = choices.choose_source(training, checkpoints)
    try:
        one_snapshot(layout, source, training if source.step is not None else [source])
    except InputError as error:
        st.html(words.unreadable(str(error)))


def none_yet(layout: RunLayout) -> None:
    """Say when the first snapshot is due, or how to make one from a checkpoint."""
    checkpoints = file_names(layout)
    st.html(words.none_yet(read_status(layout), bool(checkpoints)))
    if checkpoints:
        offer("Look into it", ["visualize", str(layout.checkpoints / checkpoints[-1])], key="latent-checkpoint")


def one_snapshot(layout: RunLayout, source: Source, others: list[Source]) -> None:
    """Controls, the map with what was picked on it, and the dimensions. Raises InputError for a file that cannot be read."""
    sets, status = sets_of(source.latents), read_status(layout)
    label = str(((status.info.config if status.info else {}).get("data") or {}).get("label") or "outcome")
    options = colours(layout, source, label)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        of = choices.choose_of(sets.state is not None)
        by = choices.choose_plane(True)
        colour = choices.choose_colour(options)
        dimension = choices.choose_dimension(layout.root.name, sets.mu.shape[1], view.most_active(sets))
    reason = why_no_variables(layout, source)
    if reason:
        st.caption(plain(reason))
    look = Look(dark=st.context.theme.type == "dark")
    shown = view.Shown(layout, source, sets, of, look, label)
    stays = choices.followed(sets.stay.tolist())
    plane = pca(source, others, of)
    if plane is None:
        st.html(words.too_few(len(sets.points(of)[0]), of))
    else:
        laid_out = umap_or_why(shown, plane, others) if by == "umap" else None
        working(shown if by == "umap" and laid_out is None and unavailable() is None else None)
        plane, drawn = (laid_out, "umap") if laid_out is not None else (plane, "pca")
        left, right = st.columns([2, 1], gap="small")
        with left:
            view.draw_map(shown, plane, drawn, colour, dimension, stays)
        with right:
            choices.choose_patients(sorted(set(sets.stay[plane.index].tolist())), stays)
            view.over_time(shown, plane, stays, dimension)
            view.caught_table(shown, stays)
    st.html(el("h2", "Dimensions", el("small", f"of the posterior, {source.label}"), cls="sv-section"))
    view.dimensions(shown)


def umap_or_why(shown: view.Shown, plane: Plane, others: list[Source]) -> Plane | None:
    """The UMAP frame of the snapshot; where there is none yet, it is asked for and the reason said, and PCA stays."""
    source, of = shown.source, shown.of
    known = umap_known(shown.layout, source, of)
    if known.frame is not None:
        if {other.step for other in others if other.step is not None} - set(known.steps):
            ask_for_layouts(shown)
        return umap_plane(shown.layout, source, of, known.frame, shown.sets)
    missing = unavailable()
    if len(plane.index) < LEAST_POINTS:
        st.html(words.too_few_for_umap(len(plane.index)))
    elif missing is not None:
        st.html(words.cannot_lay_out(missing, shown.layout.root))
    else:
        if known.stale or known.problem:
            st.caption(words.STALE)
        ask_for_layouts(shown)
    return None


def token(shown: view.Shown) -> str:
    """Of what a layout is made from: for another one the work is done again."""
    if shown.source.checkpoint is not None:
        return input_of(shown.source.latents)
    return folder_token(shown.layout.root, "latents")


def ask_for_layouts(shown: view.Shown) -> None:
    """Have the run's snapshots laid out, this one first; nothing happens when that was done."""
    if unavailable() is None:
        task = Task(shown.name, shown.of, shown.source.checkpoint)
        service().work.ask(task, shown.source.step, token(shown))


@st.fragment
def working(shown: view.Shown | None) -> None:
    """How far the layout is. Drawn anew with each change of the run, only while it is being made."""
    if shown is None:
        return
    hub, task = service(), Task(shown.name, shown.of, shown.source.checkpoint)
    found = hub.work.progress(task)
    listen("latent-work", task.run, seen=hub.revisions.current(task.run), every_ms=400)
    if found is None:
        return
    if found.state == "failed":
        st.html(words.failed(found.output))
        if st.button("Try again"):
            hub.work.ask(task, shown.source.step, token(shown), again=True)
            st.rerun(scope="fragment")
        return
    st.html(words.progress(found))


main()
