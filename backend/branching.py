"""Back to before a collapse, as a new run: where it leaves the other, and what it takes along."""

import argparse
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import orjson

from backend.checkpoints import load_checkpoint, read_sidecars, score_of
from backend.opening import new_folder
from backend.options import given_options, resolve
from backend.ownership import HELPER_OF, refuse_imported
from backend.remedies import check_remedies
from backend.resume import NEEDED, open_resume
from backend.training import train
from shared.collapse import COLLAPSES, SEVERITIES, Verdict
from shared.config import TrainConfig
from shared.configuring import build_config
from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import each_row, read_record
from shared.schema import CheckpointSidecar, Lineage, RunInfo
from shared.verdicts import replay_run
from shared.writer import write_record

STAMP = re.compile(r"-\d{8}-\d{6}(-\d+)?$")
"""What a run's folder has after its name."""


def go_back(args: argparse.Namespace) -> int:
    """Make the new run's folder, then train in it; returns the exit status of `train`."""
    if HELPER_OF in os.environ:  # one more process of a run on several devices, whose first has opened the new run
        resume = open_resume(Path(os.environ[HELPER_OF]))
        return train(resume.config(), resume)
    if "RANK" in os.environ:
        raise InputError("resume makes one new run: start it without torchrun, then go on with train --resume_from_checkpoint")
    layout = RunLayout(args.target)
    info = read_record(layout.run_json, RunInfo)
    refuse_imported(layout, info)
    branch = Branch.of(layout, args.start, given_options(args).get("remedy"))
    base = build_config(info.config, where=str(layout.run_json))
    config = resolve(args, with_remedy(base, branch.remedy, layout))
    check_remedies(config)
    target = branch.open(config, info)
    print(f"{target.root}: {branch.told()}", flush=True)
    return train(config, open_resume(target.root))


def with_remedy(config: TrainConfig, remedy: str, layout: RunLayout) -> TrainConfig:
    """The configuration of the new run, before its own options. A remedy takes the place of an action on collapse."""
    name = config.output.run_name or STAMP.sub("", layout.root.name)
    values = {
        "remedy": remedy, "on_collapse": "warn", "resume_from_checkpoint": None, "run_name": f"{name}-{remedy}",
        "output_dir": str(layout.root.parent),
    }  # fmt: skip
    return build_config(values, base=config)


@dataclass(frozen=True)
class Branch:
    """Where a new run leaves another."""

    source: RunLayout
    checkpoint: Path | None
    step: int
    verdict: Verdict | None
    remedy: str

    @classmethod
    def of(cls, layout: RunLayout, start: Path | None, remedy: str | None) -> "Branch":
        """Find the collapse, the checkpoint from before it, and what helps.

        Raises:
            InputError: nothing collapsed and it was not said where to start and with what; or no such checkpoint.
        """
        verdict = collapse_of(layout)
        if verdict is None and (remedy is None or start is None):
            raise InputError(
                f"{layout.root}: its verdicts name no collapse, so there is no moment to go back to; to try a remedy all the same "
                "say which and where from (--remedy NAME --from CKPT), or go on with `train --resume_from_checkpoint`"
            )
        if remedy is None:
            assert verdict is not None
            if not verdict.remedies:
                raise InputError(f"{layout.root}: no remedy is known for {verdict.title!r}; choose one with --remedy")
            remedy = verdict.remedies[0]
        if start is None:
            assert verdict is not None and verdict.began is not None
            start = before(layout, verdict.began)
        elif start.absolute().parent != layout.checkpoints.absolute():
            raise InputError(f"--from {start}: has to be one of the checkpoints in {layout.checkpoints}")
        return cls(layout, start, step_of(start) if start is not None else 0, verdict, remedy)

    def open(self, config: TrainConfig, info: RunInfo) -> RunLayout:
        """The new run's folder: run.json with the lineage, the logs up to the step, and the checkpoint as last.ckpt."""
        target = new_folder(config, info.dataset.name if info.dataset is not None else "run")
        lineage = Lineage(
            run=self.source.root.name,
            checkpoint=self.checkpoint.name if self.checkpoint is not None else None,
            step=self.step,
            onset=self.verdict.began if self.verdict is not None else None,
            verdict=self.verdict.kind if self.verdict is not None else None,
            remedy=self.remedy,
        )
        kept = config.model_dump(mode="json")
        new = RunInfo(name=target.root.name, config=kept, dataset=info.dataset, lineage=lineage, max_steps=info.max_steps)
        try:
            target.checkpoints.mkdir()
            for log in ("metrics", "evaluations"):
                copy_until(getattr(self.source, log), getattr(target, log), self.step)
            if self.checkpoint is not None:
                copy_checkpoint(self.checkpoint, target)
            write_record(target.run_json, new, durable=True)
        except OSError as error:
            raise InputError(f"{target.root}: cannot be written ({error.strerror})") from error
        return target

    def told(self) -> str:
        """In one line."""
        place = f"from step {self.step:,} ({self.checkpoint.name})" if self.checkpoint is not None else "from the first step"
        onset = f", before {self.verdict.title!r} of step {self.verdict.began:,}" if self.verdict and self.verdict.began else ""
        return f"{self.remedy} on {self.source.root.name} {place}{onset}"


def collapse_of(layout: RunLayout) -> Verdict | None:
    """The most serious collapse that a replay of the run finds, lasting or past; the earliest of several."""
    detector = replay_run(layout)
    found = [v for v in (*detector.verdicts, *detector.past) if v.kind in COLLAPSES and v.began is not None]
    serious = [v for v in found if v.severity in ("alarm", "warning")]
    return min(serious, key=lambda v: (SEVERITIES.index(v.severity), v.began or 0), default=None)


def before(layout: RunLayout, onset: int) -> Path | None:
    """The checkpoint with the best validation score from before a step; else the latest from before; else None."""
    known = [(path, sidecar) for path, sidecar in read_sidecars(layout.checkpoints) if sidecar.step < onset and usable(path)]
    best = [(score_of(sidecar.metrics), path) for path, sidecar in known if sidecar.kind == "best"]
    latest = [(sidecar.step, path) for path, sidecar in known if sidecar.step > 0]
    chosen = max(best, default=None) or max(latest, default=None)
    return chosen[1] if chosen is not None else None


def usable(path: Path) -> bool:
    """Whether it can be gone on from: whole, and saved between two steps."""
    try:
        return bool(load_checkpoint(path, mapped=True, needs=NEEDED)["seqsetvae"]["settled"])
    except InputError:
        return False


def step_of(path: Path) -> int:
    """Optimizer steps done. Raises InputError like `load_checkpoint`."""
    return int(load_checkpoint(path, mapped=True, needs=NEEDED)["global_step"])


def copy_until(log: Path, target: Path, step: int) -> None:
    """The lines of a log up to a step, as they are."""
    with target.open("wb") as file:
        for row in each_row(log):
            if row["step"] <= step:
                file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


def copy_checkpoint(path: Path, target: RunLayout) -> None:
    """A checkpoint and its sidecar, as the new run's last."""
    last = target.checkpoints / "last.ckpt"
    sidecar = read_record(path.with_suffix(".json"), CheckpointSidecar)
    write_record(last.with_suffix(".json"), sidecar.model_copy(update={"kind": "last", "file": last.name}))
    shutil.copyfile(path, last)
