"""What the Latent space page says: reading guides beside the pictures, and what is missing with the next action."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from dashboard.latent.dims import KINDS, MOST_CORRELATED
from dashboard.reconstruction.words import first_due
from dashboard.widgets import Html, banner, el, imported, is_imported
from dashboard.work import Progress
from shared.collapse import Thresholds
from shared.embedding import LEAST_POINTS, NEIGHBOURS
from shared.latents import Of
from shared.reader import Health, RunStatus
from shared.verdicts import unwatched

MAP = {
    "pca": "Each point is one set of measurements of one patient. PCA is a straight view: distances on it are true distances, as far "
    "as the two axes reach; their share of the variance is said on them.\n\nAligned: all snapshots are drawn on the same two axes, "
    "the principal axes of up to five snapshots spread over the run taken together, with the same limits. So places may be compared "
    "from step to step: a cloud that shrinks into the middle is a posterior that collapses, one that stretches is learning.",
    "umap": f"Each point is one set of measurements of one patient. UMAP keeps the nearest {NEIGHBOURS} neighbours near; sizes of "
    "groups, gaps between them and the axes mean nothing.\n\nAligned: every snapshot starts from the finished layout of the snapshot "
    "nearest to it in training, moves at a tenth of the usual rate, and is rotated or mirrored onto it by the sets both have. So it may be "
    "compared where a patient or a group lies from step to step, and who joins whom; a small shift of all points is chance.",
}  # fmt: skip
PICK = (
    "\n\nDraw around points (lasso or box) to list their patients; click a point to follow its patient: its sets in the order of time, "
    "from the open circle to the square."
)
DIAGNOSIS = (
    "\n\nSupports: outcomes that separate say the latent carries the patient; points in no order, or on one spot, say that it does not. "
    "Time as the strongest gradient says that it carries the clock."
)
ACTIVITY = (
    f"Variance over sets of the posterior mean of each dimension, on a logarithmic axis; active above {Thresholds.active_variance:g} (Burda "
    "et al. 2016).\n\n"
    + "\n".join(f"{kind.capitalize()}: {meaning}." for kind, (_, _, meaning) in KINDS.items())
    + "\n\nSupports: partial collapse (a cliff with the rest passive), total collapse (all below the line), surplus dimensions that were "
    "pruned."
)
KL = (
    "What each dimension costs, in nats per set, in the same order as beside. A dimension with KL but without variance of its mean is a "
    "constant shift: paid for, and says nothing of the patient."
)
CORRELATION = (
    "Correlation over sets between the posterior means of two dimensions: -1 blue, 0 pale, 1 red. Near 0 off the diagonal: each says "
    "something of its own. Blocks: several say the same, so fewer dimensions would do.\n\nBy similarity: ordered by the angle between the "
    f"two leading eigenvectors, so that blocks stand together (Friendly 2002). At most the {MOST_CORRELATED} most active dimensions; those "
    "that do not vary are left out."
)
OVER_TIME = (
    "Posterior mean of one dimension at each set of the followed patients. A line that never moves is a latent that knows who the "
    "patient is, not how the patient is: a partial collapse in time."
)


STALE = "The UMAP kept with this run is broken, of another state of this snapshot, or of another release; it is made again."


def none_yet(status: RunStatus, checkpoints: bool) -> Html:
    """For a run without a latents snapshot: when there will be one, or why never."""
    if is_imported(status):
        return imported("No latents", "no latents")
    alive = status.health in (Health.CREATED, Health.RUNNING, Health.STALE)
    config = status.info.config if status.info else {}
    reason = unwatched(config)
    if reason is not None:
        how = f"{reason.title}: {reason.detail}"
    else:
        due = first_due(config, status.info.max_steps if status.info else None)
        how = due if alive else "It ended before one was due, or it was made without a probe set."
    return el(
        "section",
        el("h1", "No latents yet"),
        el("p", "The latents of a fixed set of patients are written at every evaluation of the probe set. ", how),
        el("p", "They show up here by themselves.") if alive else None,
        el("p", "They can be made from a checkpoint of the run at any time:") if checkpoints else None,
        cls="sv-landing", data_state="no-latents",
    )  # fmt: skip


def unreadable(problem: str) -> Html:
    """For a file that cannot be read; others can still be chosen."""
    return el("div", banner("alarm", "This cannot be read.", problem + ".", "Choose another snapshot above."), cls="sv-banners")


def too_few(points: int, of: Of) -> Html:
    """For a snapshot with nothing to draw."""
    detail = f"It has {points} sets with finite {of}; a map takes at least 3."
    return el("div", banner("warning", "Too few points.", detail, "Choose another snapshot, or latents."), cls="sv-banners")


def too_few_for_umap(points: int) -> Html:
    """PCA is shown in place of UMAP."""
    detail = f"{points} points; with fewer than {LEAST_POINTS} nearly every point is a neighbour of every other. This is PCA."
    return banner("info", "Too few points for UMAP.", detail)


def cannot_lay_out(reason: str, run: Path) -> Html:
    """The dashboard's machine cannot make UMAP; PCA is shown in its place."""
    detail = "This is PCA. Layouts made elsewhere and kept with the run are shown."
    return banner(
        "info",
        f"{reason}.",
        detail,
        "Work it out where the trainer is installed:",
        f"python -m backend umap {shlex.quote(str(run))}",
    )


def progress(found: Progress) -> Html:
    """A bar with what is being done; PCA is shown meanwhile."""
    waits = found.state == "waiting"
    phase = "waiting for another layout to be finished" if waits else f"{found.phase}, {found.seconds:.0f} s so far"
    bar = el("span", style=f"width:{found.share:.1%}")
    return el(
        "div",
        el("p", el("strong", f"UMAP {found.share:.0%}"), " ", el("span", phase, cls="sv-dim")),
        el("div", bar, cls="sv-progress", role="progressbar", aria_label="UMAP", aria_valuenow=f"{100 * found.share:.0f}",
           aria_valuemin="0", aria_valuemax="100"),
        cls="sv-umap", data_state=found.state,
    )  # fmt: skip


def how_to_follow() -> Html:
    """While nobody is followed."""
    return el(
        "div",
        el("p", el("strong", "Who are these points?")),
        el("p", "Click a point to follow its patient over the map, or draw around some with the lasso or the box (buttons at the top right "
           "of the map) to list their patients."),
        cls="sv-hint",
    )  # fmt: skip


def failed(output: str) -> Html:
    """UMAP ended with an error: what it printed, as text."""
    return el(
        "div",
        banner("alarm", "UMAP failed.", "This is PCA. Its last lines:", "Mend what they name, then try again."),
        el("pre", output, cls="sv-output"),
        cls="sv-banners", data_state="failed",
    )  # fmt: skip


def summary(points: int, patients: int, missing: int, left_out: int, notes: Sequence[str]) -> Html:
    """One line under the map."""
    parts = [f"{points:,} sets of {patients:,} patients."]
    if left_out:
        parts.append(f"{left_out:,} sets without finite values are left out.")
    if missing:
        parts.append(f"Grey: {missing:,} whose colour is not known.")
    return el("p", " ".join([*parts, *(note for note in notes if note)]), cls="sv-dim sv-map-note")
