"""The detector on the proving ground: recorded real trainings, labelled from full-data truth; recomputes in seconds.

Rules were written and limits chosen on seeds below 10 of the toy architectures (`--choose` repeats the choice); every other seed,
and SeqSetVAE whole, is scored. Two families of faults were added when both were done, and are only scored: the unseen ones.
`--choose` also leaves each other family out in turn, and scores it with limits chosen without it.
`python -m tests.benchmarks.proving_ground.record` makes the recordings again.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from rich.progress import track

from shared.collapse import PRESETS, Thresholds
from tests.benchmarks.harness import parser_of, report
from tests.benchmarks.proving_ground.forecasts import forecast_figures
from tests.benchmarks.proving_ground.older_rules import older_rules
from tests.benchmarks.proving_ground.score import Outcome, detector_alarms, outcomes, summary
from tests.benchmarks.proving_ground.streams import Recording, load
from tests.benchmarks.proving_ground.unseen import FAMILIES

CHOSEN_ON = 10
"""Seeds below this, of the architectures that are not held out, are for choosing."""
HELD_OUT = ("seqset",)
GRID: dict[str, tuple[Any, ...]] = {
    "persistence": (2, 3, 5),
    "grace": (0.03, 0.05, 0.08),
    "stable_margin": (0.9, 1.3, 1.8),
}
LATE = 0.08
"""Share of training by which an alarm may come after the onset."""
FIGURES = (
    "recall", "precision", "delay_median", "delay_p90", "false_alarms_per_1000", "false_alarms_bound", "healthy_updates",
    "diagnosis_accuracy",
)  # fmt: skip


def for_choosing(recording: Recording) -> bool:
    """Whether limits may be chosen on it."""
    return recording.seed < CHOSEN_ON and recording.architecture not in HELD_OUT and recording.family not in FAMILIES


def main(argv: list[str]) -> None:
    """Run the benchmark."""
    parser = parser_of("collapse_scenarios", __doc__)
    parser.add_argument("--preset", choices=list(PRESETS), default="balanced", help="sensitivity to score [balanced]")
    parser.add_argument("--choose", action="store_true", help="also choose limits anew on the part for choosing (minutes)")
    parser.add_argument("--misses", action="store_true", help="list every run that was missed, alarmed falsely or misnamed")
    args = parser.parse_args(argv)
    recordings, watcher = load(), detector_alarms(PRESETS[args.preset])
    held = [recording for recording in recordings if not for_choosing(recording)]
    seen, unseen = ([r for r in held if (r.family in FAMILIES) is new] for new in (False, True))
    found = outcomes(seen, watcher)
    rows: list[dict[str, object]] = [{"rule": f"detector, {args.preset}", **summary(found)}]
    rows += [{"rule": name, **summary(outcomes(seen, rule))} for name, rule in older_rules().items()]
    groups = by_family([*found, *outcomes(unseen, watcher)])
    groups |= {
        f"on {name}": [o for o in found if o.recording.architecture == name] for name in sorted({r.architecture for r in seen})
    }
    rows += [{"rule": f"  {name}", **summary(part)} for name, part in groups.items()]
    if args.misses:
        print("\n".join(misses(outcomes(held, watcher))))
    figures: dict[str, object] = {name: rows[0][name] for name in FIGURES}
    figures |= {"unseen_family_recall": summary(outcomes(unseen, watcher))["recall"]}
    figures |= (left_out(recordings, seen) if args.choose else {}) | forecast_figures(held, PRESETS[args.preset])
    report("collapse_scenarios", rows, figures)


def by_family(found: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Outcomes of each family, must-alarm first."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in sorted(found, key=lambda o: (o.recording.onset is None, o.recording.family)):
        groups.setdefault(outcome.recording.family, []).append(outcome)
    return groups


def misses(found: Iterable[Outcome]) -> list[str]:
    """A line for every run that did not go as it should."""
    lines = []
    for o in found:
        r = o.recording
        wrong = [f"missed (onset {r.onset})"] if r.onset is not None and not o.hits else []
        wrong += [f"{o.false_alarms} false"] if o.false_alarms else []
        wrong += ["misnamed"] if o.right is False else []
        wrong += [f"late by {o.delay:.1%}"] if (o.delay or 0) > LATE else []
        said = ", ".join(f"{a.verdict.kind}/{a.verdict.cause}@{a.step}" for a in o.alarms[:4] if a.verdict)
        if wrong:
            lines.append(
                f"{r.architecture:12} {r.scenario:32} seed {r.seed:2} onset {r.onset} of {r.max_steps}: {'; '.join(wrong)} [{said}]"
            )
    return lines


def left_out(recordings: Sequence[Recording], held: Sequence[Recording]) -> dict[str, float]:
    """Recall on each family with limits chosen on the others: the mean and the lowest; and the limits chosen on all."""
    choosing = [recording for recording in recordings if for_choosing(recording)]
    settings = [dict(zip(GRID, values, strict=True)) for values in product(*GRID.values())]
    scored = [outcomes(choosing, detector_alarms(Thresholds(**s))) for s in track(settings, "choosing limits")]
    chosen = best(settings, scored, without="")
    print("chosen on all families:", chosen)
    recalls = {}
    for family in sorted({r.family for r in held if r.onset is not None}):
        limits = Thresholds(**best(settings, scored, without=family))
        recalls[family] = summary(outcomes([r for r in held if r.family == family], detector_alarms(limits)))["recall"] or 0.0
    return {"left_out_recall": sum(recalls.values()) / len(recalls), "left_out_lowest": min(recalls.values())}


def best(settings: Sequence[dict[str, Any]], scored: Sequence[Sequence[Outcome]], without: str) -> dict[str, Any]:
    """The setting with the fewest wrong runs of the other families; of equal ones the most central of the grid."""

    def cost(setting: dict[str, Any], found: Sequence[Outcome]) -> tuple[int, int]:
        wrong = sum(is_wrong(o) for o in found if o.recording.family != without)
        return wrong, sum(abs(values.index(setting[name]) - len(values) // 2) for name, values in GRID.items())

    return min(zip(settings, scored, strict=True), key=lambda pair: cost(*pair))[0]


def is_wrong(outcome: Outcome) -> bool:
    """Missed, late, misnamed, or alarmed at while nothing was wrong."""
    missed = outcome.recording.onset is not None and not outcome.hits
    return missed or outcome.false_alarms > 0 or outcome.right is False or (outcome.delay or 0) > LATE
