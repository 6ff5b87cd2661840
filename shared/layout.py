"""Where everything in a run directory lies. The only place that spells its file names."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SCHEMA_VERSION = 1
"""Written into every file of a run; a reader names an unknown one and does not guess."""

SNAPSHOT_KINDS = ("posterior", "latents", "reconstruction", "presence")
"""Each a folder of parquet files, one per evaluation of the probe set."""

CHECKPOINT_KINDS = ("last", "earlier", "best", "final", "interrupted", "error", "collapse")


@dataclass(frozen=True)
class RunLayout:
    """The files of one run, all below `root`, so that a run can be copied, archived or deleted as one folder."""

    root: Path

    @property
    def run_json(self) -> Path:
        """`RunInfo`: configuration, versions, device, data fingerprint, state."""
        return self.root / "run.json"

    @property
    def heartbeat(self) -> Path:
        """`Heartbeat`, replaced atomically about once a second."""
        return self.root / "heartbeat.json"

    @property
    def metrics(self) -> Path:
        """One line per optimizer step, each with an integer `step`; append-only."""
        return self.root / "metrics.jsonl"

    @property
    def evaluations(self) -> Path:
        """One line per validation or probe evaluation (`kind`), each with the `step` it was made after."""
        return self.root / "evaluations.jsonl"

    @property
    def events(self) -> Path:
        """`Event` lines: state changes, verdicts, remedies, checkpoints, warnings, errors."""
        return self.root / "events.jsonl"

    @property
    def console(self) -> Path:
        """What the training process printed."""
        return self.root / "console.log"

    def last_words(self, rank: int) -> Path:
        """What a process other than the first failed of; the first makes it an event of the run and removes it."""
        return self.root / f"rank-{rank}.error.json"

    @property
    def checkpoints(self) -> Path:
        """`*.ckpt`, each with a readable `*.json` sidecar of the same stem."""
        return self.root / "checkpoints"

    @property
    def discarded(self) -> Path:
        """What a resume of an earlier checkpoint cut off: log lines and snapshots of steps that are made again."""
        return self.root / "discarded"

    @property
    def plots(self) -> Path:
        """Four-panel pictures that the posterior monitor draws."""
        return self.root / "plots"

    @property
    def notes(self) -> Path:
        """`RunNotes`: what people say of the run; the only file in a run that the dashboard itself writes."""
        return self.root / "notes.json"

    @property
    def analysis(self) -> Path:
        """What was worked out from the run later (UMAP, a checkpoint looked into), each a flat file that appears whole."""
        return self.root / "analysis"

    def posterior(self, step: int) -> Path:
        """Per-dimension posterior snapshot after `step`."""
        return self.root / "posterior" / f"step-{step:09d}.parquet"

    def latents(self, step: int) -> Path:
        """Probe-set latents after `step`: stay_id, set_row, minute, outcome, mu and logvar (lists of float16).

        SeqSetVAE adds `sampled`, false for sets that are there to be drawn and are not part of the sample that figures rest on,
        and `state` (list of float16, null in stays that are not decoded): the causal state over sampled latents.
        """
        return self.root / "latents" / f"step-{step:09d}.parquet"

    @property
    def observed(self) -> Path:
        """What had been measured at each of the latents' sets: the same for all snapshots of a run, written with the first.

        Columns set_row, variable, value and minute (NaN for what belongs to the whole stay); see `backend.probe_observed`.
        """
        return self.root / "latents" / "observed.parquet"

    def umap(self, of: str, checkpoint: str | None = None) -> Path:
        """UMAP of "latents" or "states": of the snapshots over training, or of one checkpoint's; see `shared.embedding`."""
        return self.analysis / (f"umap-{of}.parquet" if checkpoint is None else f"umap-{of}-{checkpoint}.parquet")

    def progress(self, result: Path) -> Path:
        """How far the work on `result` is, replaced atomically. In a folder of its own: it is no result, and wakes no page."""
        return self.analysis / "progress" / f"{result.stem}.json"

    def reconstruction(self, step: int) -> Path:
        """Per-event reconstruction errors on the probe set after `step`; the frame's attributes hold the variables' `units`."""
        return self.root / "reconstruction" / f"step-{step:09d}.parquet"

    def presence(self, step: int) -> Path:
        """Per set of the same stays, which variables the decoder expected in it and which occurred, after `step`.

        Columns stay_id, minute, probability (list of float16) and occurred (list of bool), in the order of the attribute
        `variables` of the frame. Missing in runs of older releases and of decoders that do not model it.
        """
        return self.root / "presence" / f"step-{step:09d}.parquet"

    def analysed(self, kind: str, checkpoint: str) -> Path:
        """A snapshot of one of `SNAPSHOT_KINDS` made later from a checkpoint of that file stem."""
        return self.analysis / f"{kind}-{checkpoint}.parquet"

    def all_analysed(self, kind: str) -> list[tuple[str, Path]]:
        """All (checkpoint, path) of one kind that was made later from a checkpoint, in name order."""
        return sorted((path.stem.removeprefix(f"{kind}-"), path) for path in self.analysis.glob(f"{kind}-*.parquet"))

    def snapshots(self, kind: str) -> list[tuple[int, Path]]:
        """All (step, path) of one of `SNAPSHOT_KINDS`, oldest first."""
        found = (self.root / kind).glob("step-*.parquet")
        numbered = ((path.stem.removeprefix("step-"), path) for path in found)
        return sorted((int(number), path) for number, path in numbered if number.isdecimal())


def iter_runs(output_dir: Path) -> Iterator[RunLayout]:
    """Every folder directly under `output_dir` that holds a run, in name order; dot folders are skipped."""
    for child in sorted(output_dir.iterdir()) if output_dir.is_dir() else ():
        layout = RunLayout(child)
        if child.is_dir() and not child.name.startswith(".") and _may_hold_run(layout):
            yield layout


def _may_hold_run(layout: RunLayout) -> bool:
    try:
        return layout.run_json.exists()
    except PermissionError:  # another user's run: listed as unreadable, and the rest of the list stays
        return True
