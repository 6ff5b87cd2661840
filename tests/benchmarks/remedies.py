"""Each remedy in each collapse: what comes back of units and information, at what cost in bound and in steps.

Toy VAEs of the proving ground, side by side, and SeqSetVAE itself on simulated stays. A remedy starts at the alarm, as by
`--on_collapse remedy:NAME`. All figures are of the full data at the end of training. Recovered: at least half of what the
collapse took of active units, of information, and of the information of each level is there again, and the decoder relies on
its latents (over 0.05). "healthy" is the same training without its fault, "nothing" the one in which nothing is done.
"""

import multiprocessing
import statistics
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from shared.remedies import REMEDIES
from tests.benchmarks.curing import EVERY, GONE, HEALTHY, SEQSET, STEPS, Ending, train
from tests.benchmarks.harness import parser_of, report
from tests.benchmarks.harness import table as table_text

SCENARIOS = (
    "beta_too_high_linear", "beta_too_high_mlp", "beta_too_high_hierarchical", "beta_too_high_sequence", "beta_step_mlp",
    "beta_step_partial_mlp", "bypass_copy", "bypass_previous", "ignored_free_bits", "shifted_mlp", "shifted_later_linear",
    "few_units_mlp", "level_1_dead", "level_2_dead",
)  # fmt: skip
OUT_OF_REACH = ("smoothed",)
"""A fault that no weight of the KL makes good, run all the same; not counted."""


def main(argv: list[str]) -> None:
    """Run all trainings, then the table."""
    parser = parser_of("remedies", __doc__)
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind [3]")
    parser.add_argument("--jobs", type=int, default=1, help="processes [1]")
    parser.add_argument("--scenarios", nargs="*", default=[*SCENARIOS, SEQSET, *OUT_OF_REACH], help="[all]")
    parser.add_argument("--remedies", nargs="*", default=[*REMEDIES], help="[all]")
    args = parser.parse_args(argv)
    ways = (HEALTHY, GONE, *args.remedies)
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        endings: list[Ending] = []
        for found in pool.imap(partial(train, ways=ways, seeds=args.seeds), args.scenarios):
            endings += found
            print(table_text(list(table(found))), flush=True)
    rows = list(table(endings))
    report("remedies", rows, figures(rows))


def recovered(now: dict[str, float], well: dict[str, float], gone: dict[str, float]) -> bool:
    """Half of what was taken is there again, of everything of which a tenth or more was taken."""
    for name, before in well.items():
        taken = before - gone[name]
        if name.startswith(("active", "mi_gauss")) and taken > 0.1 * before and now[name] < gone[name] + 0.5 * taken:
            return False
    return now["decoder_reliance"] > 0.05


def table(endings: list[Ending]) -> Iterable[dict[str, object]]:
    """One row for each remedy in each scenario, over seeds."""
    by_case = {ending.case: ending for ending in endings}
    for scenario, remedy in dict.fromkeys((e.case.scenario, e.case.remedy) for e in sorted(endings, key=order)):
        mine = [e for e in endings if (e.case.scenario, e.case.remedy) == (scenario, remedy)]
        cured, steps = [], []
        for ending in mine:
            well, gone = (by_case[replace(ending.case, remedy=way)].figures for way in (HEALTHY, GONE))
            cured.append(recovered(ending.figures, well, gone))
            lost = [row["step"] for row in ending.rows if not recovered(row, well, gone)]
            if cured[-1] and ending.alarm is not None and remedy in REMEDIES:
                steps.append(max(max(lost, default=0) + EVERY - ending.alarm, 0))
        mean = {
            name: statistics.fmean(e.figures[name] for e in mine)
            for name in ("active_units", "mi_gauss", "decoder_reliance", "elbo")
        }
        yield {
            "scenario": scenario, "remedy": remedy, "recovered": sum(cured) / len(cured) if remedy != HEALTHY else None,
            "active": mean["active_units"], "nats": mean["mi_gauss"], "reliance": mean["decoder_reliance"], "elbo": mean["elbo"],
            "steps": statistics.median(steps) if steps else None,
            "extra encoder steps": statistics.fmean(e.extra_steps for e in mine) if remedy == "aggressive_encoder" else None,
        }  # fmt: skip


def order(ending: Ending) -> tuple[int, int]:
    """As listed at the head of this file."""
    names = [*SCENARIOS, SEQSET, *OUT_OF_REACH]
    return names.index(ending.case.scenario), [HEALTHY, GONE, *REMEDIES].index(ending.case.remedy)


def figures(rows: list[dict[str, Any]]) -> dict[str, object]:
    """Over the scenarios that count: the share that each remedy recovers, and the best of them; and what the best of each does."""
    counted = [row for row in rows if row["scenario"] not in OUT_OF_REACH]
    scenarios = list(dict.fromkeys(row["scenario"] for row in counted))

    def share(remedy: str) -> float:
        return statistics.fmean([row["recovered"] for row in counted if row["remedy"] == remedy] or [0.0])

    shares = {remedy: round(share(remedy), 3) for remedy in (GONE, *REMEDIES)}
    best = max(REMEDIES, key=lambda remedy: shares[remedy])
    each = [max(row["recovered"] for row in counted if row["scenario"] == s and row["remedy"] in REMEDIES) for s in scenarios]
    return {
        "best_recovered": shares[best], "best": best, "best_of_each": round(statistics.fmean(each), 3), "recovered": shares,
        "scenarios": len(scenarios), "not_counted": list(OUT_OF_REACH), "steps": STEPS,
    }  # fmt: skip
