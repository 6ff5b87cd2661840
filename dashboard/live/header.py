"""The top of a run's page: state, data, newest figures, verdicts. Figures are pushed by themselves; the rest is drawn when it changes."""

import hashlib
from dataclasses import replace

from dashboard.formats import DASH, count, duration, moment, number, rate
from dashboard.live.measured import Measured, measured
from dashboard.runs.loading import Snapshot
from dashboard.widgets import Html, badge, banner, el, is_imported, join, progress, state_banner, verdict_banner
from shared.collapse import Verdict
from shared.detector import NOTHING_YET
from shared.reader import Health, RunStatus
from shared.schema import DeviceLoad

GONE = "gone"
"""The token of a run that is not there."""
CUT_OFF = 36
"""Letters that the choice of a run has room for on a telephone."""
STATS = (
    ("Step", "step"), ("Epoch", "epoch"), ("Rate", "rate"), ("Time left", "eta"), ("Loss", "loss"), ("KL", "kl"),
    ("Active units", "active"), ("Validation AUROC", "auroc"),
)  # fmt: skip


def numbers(snapshot: Snapshot) -> dict[str, str]:
    """The newest figures as they are shown; `progress` is a CSS width."""
    return snapshot.once("numbers", lambda: _numbers(snapshot))


def _numbers(snapshot: Snapshot) -> dict[str, str]:
    beat, step, planned = snapshot.status.heartbeat, _step(snapshot), _planned(snapshot)
    running = beat is not None and snapshot.status.health is Health.RUNNING
    last = measured(snapshot)
    return {
        "step": count(step),
        "epoch": f"{beat.epoch:.2f}" if beat and not is_imported(snapshot.status) else DASH,
        "rate": rate(beat.steps_per_s) if beat and running else DASH,
        "eta": duration(beat.eta_s) if beat and running else DASH,
        "loss": number(snapshot.latest("training", "loss")),
        "kl": number(snapshot.latest("training", "kl")),
        "active": count(snapshot.latest("probe", "active_units")),
        "measured": last.words if last else "",
        "measured_ago": last.since if last else "",
        "load": _load(beat.load) if beat and beat.load and running else "",
        "auroc": number(snapshot.latest("validation", "auroc"), 3),
        "progress": f"{min(step / planned, 1):.2%}" if planned else "0%",
    }


def _load(load: DeviceLoad) -> str:
    """How busy the device is, as far as the trainer can tell."""
    parts = []
    if load.gpu_share is not None:
        parts.append(f"GPU {load.gpu_share:.0%} busy")
    if load.gpu_memory_gb is not None:
        parts.append(f"{load.gpu_memory_gb:.1f} of {load.gpu_memory_total_gb or 0:.0f} GB of GPU memory")
    if load.cpu_cores is not None:
        parts.append(f"{load.cpu_cores:.1f} cores busy")
    if load.memory_gb is not None:
        parts.append(f"{load.memory_gb:.1f} GB of memory")
    return " · ".join(parts)


def _step(snapshot: Snapshot) -> int:
    beat = snapshot.status.heartbeat
    return snapshot.last_step if snapshot.last_step is not None else beat.step if beat else 0


def _planned(snapshot: Snapshot) -> int | None:
    info, beat = snapshot.status.info, snapshot.status.heartbeat
    return (beat.max_steps if beat else None) or (info.max_steps if info else None)


def head_token(snapshot: Snapshot) -> str:
    """Changes when anything in the header but its figures does."""

    def make() -> str:
        last = measured(snapshot)  # its age is pushed like a figure
        text = f"{_about(snapshot.status)}{_banners(snapshot, None)}{_units(snapshot)}{snapshot.last_step is None}{last and last.old}"
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    return snapshot.once("token", make)


def header(snapshot: Snapshot) -> Html:
    """State, data, device, figures and banners of a run."""
    shown, units, last = numbers(snapshot), _units(snapshot), measured(snapshot)
    stats = [
        el(
            "div",
            el("dt", label),
            el(
                "dd",
                el("span", shown[name], data_metric=name),
                el("small", " " + units[name]) if name in units else None,
                el("small", last.line("measured_ago", last.since), cls="sv-age", title=last.words)
                if last and name == "active"
                else None,
            ),
        )
        for label, name in STATS
    ]
    load = el("p", shown["load"], cls="sv-dim sv-load", data_metric="load", title="of the training process, by its heartbeat")
    top = (_full_name(snapshot.status.name), _about(snapshot.status), load, progress(_step(snapshot), _planned(snapshot)))
    return join([el("header", *top, el("dl", *stats, cls="sv-stats"), cls="sv-head"), _banners(snapshot, last)])


def _units(snapshot: Snapshot) -> dict[str, str]:
    planned, dims = _planned(snapshot), snapshot.latest("probe", "latent_dims")
    kl, stays = snapshot.latest("training", "kl"), snapshot.latest("validation", "stays")
    found = {
        "kl": "nats" if kl is not None else "",
        "step": f"of {planned:,}" if planned else "",
        "active": f"of {dims:,.0f}" if dims else "",
        "auroc": f"on {stays:,.0f} stays" if stays else "",
    }
    return {name: unit for name, unit in found.items() if unit}


def _full_name(name: str) -> Html | None:
    """The choice above cuts a long name off, where runs of one series differ."""
    return el("p", name, cls="sv-name") if len(name) > CUT_OFF else None


def _about(status: RunStatus) -> Html:
    info, beat = status.info, status.heartbeat
    phase = beat.phase if beat and status.health is Health.RUNNING else None
    data = info.dataset if info else None
    origin = f"imported from {info.imported.path}" if info and info.imported else None
    facts = [data.name if data else None, info.device if info else None, info.precision if info else None, origin]
    started = f"started {moment(info.created_at)} UTC" if info else None
    simulated = "From the built-in generator: no real patients."
    return el(
        "p",
        badge(status.health),
        el("span", phase, cls="sv-dim") if phase else None,
        el("span", "simulated data", cls="sv-tag", title=simulated) if data and data.simulated else None,
        el("span", " · ".join(fact for fact in (*facts, started) if fact and fact != "unknown"), cls="sv-dim"),
        cls="sv-about",
    )  # fmt: skip


def _forecast(snapshot: Snapshot) -> list[str]:
    """What was foretold last, as long as it is still to come."""
    made = snapshot.forecast
    return [made.sentence] if made is not None and _step(snapshot) < made.reached_at else []


def strip(snapshot: Snapshot | None) -> Html | None:
    """What is wrong with the run, in the same words, for pages about a part of it; None where nothing is."""
    found = [verdict_banner(one) for one in snapshot.verdicts if one.severity in ("alarm", "warning")] if snapshot else []
    return el("div", *found, cls="sv-banners") if found else None


def told(snapshot: Snapshot) -> list[Verdict]:
    """The verdicts in words that fit the run: of one that has ended nothing is to come, and options are those of our trainer alone."""
    imported = is_imported(snapshot.status)
    found = [replace(one, advice="") if imported else one for one in snapshot.verdicts]
    if snapshot.status.health in (Health.CREATED, Health.RUNNING, Health.STALE):
        return found
    over = replace(NOTHING_YET, title="No probe evaluation", detail="The run ended without one.", advice="")
    return [over if one.title == NOTHING_YET.title else one for one in found]


def _banners(snapshot: Snapshot, last: Measured | None) -> Html:
    """What is wrong with the run, then the verdicts, then what could not be read."""
    state = state_banner(snapshot.status)
    found = [state] if state else []
    if snapshot.last_step is not None:
        age = last.line("measured", last.words) if last else None
        found += [verdict_banner(verdict, None if i else age) for i, verdict in enumerate(told(snapshot))]
        found += [banner("info", "Forecast.", sentence) for sentence in _forecast(snapshot)]
    if snapshot.reading is not None:
        found.append(
            banner("info", "The log is long.", f"Read so far: {snapshot.reading:.0%}. Until all of it is, curves are drawn through a "
                   "sample of its steps, and a part that you zoom into is exact.")
        )  # fmt: skip
    if snapshot.problems:
        more = f" (and {len(snapshot.problems) - 3} more)" if len(snapshot.problems) > 3 else ""
        found.append(
            banner("warning", "Some lines of the log cannot be read.", "; ".join(snapshot.problems[:3]) + more + ".",
                   "All other lines are shown. Lines like these are left by a full disk or an edit by hand.")
        )  # fmt: skip
    return el("div", *found, cls="sv-banners")
