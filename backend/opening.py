"""The first and the last thing of a run: its folder with run.json, and the state in which it ends."""

import os
import platform
import socket
import sys
import traceback
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType

from backend.checkpoints import repair_sidecars
from backend.ownership import HELPER_OF, refuse_running
from backend.plan import Plan
from backend.ranks import RankFailedError, is_echo
from backend.recorder import RunRecorder
from backend.resume import Resume, clear_after
from backend.stopping import CollapseStop, NotSavedError, StopRequested
from backend.store import PreparedDataset
from shared.config import TrainConfig
from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import read_record
from shared.schema import RunInfo, RunState, Session, now
from shared.writer import write_record

PACKAGES = ("torch", "lightning", "torchmetrics", "numpy", "pandas", "pyarrow")


def open_recorder(config: TrainConfig, data: PreparedDataset, plan: Plan, resume: Resume | None, device: str) -> RunRecorder:
    """The recorder of a new run or of one that goes on, its run.json written and its log cut to where it goes on.

    Raises:
        InputError: the folder cannot be made or written, or another process took the run up meanwhile.
    """
    helped = os.environ.get(HELPER_OF)
    if helped is not None:
        layout = RunLayout(Path(helped))
        return RunRecorder(layout, read_record(layout.run_json, RunInfo), writes=False)
    if resume is None:
        summary = data.info.summary(Path(config.data.data_dir).absolute())
        layout = new_folder(config, data.info.name)
        info = RunInfo(name=layout.root.name, config={}, dataset=summary, parent=config.trainer.init_from)
    else:
        layout, info = resume.layout, resume.info
        refuse_running(layout)
    info.config = config.model_copy(
        update={"trainer": config.trainer.model_copy(update={"resume_from_checkpoint": None})}
    ).model_dump(mode="json")
    info.device, info.max_steps = device, plan.total_steps
    info.versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    info.sessions.append(
        Session(started_at=now(), from_step=plan.start_step, pid=os.getpid(), host=socket.gethostname(), command=sys.argv)
    )
    try:
        if resume is not None:
            clear_after(layout, plan.start_step)
            repair_sidecars(layout.checkpoints)
        layout.checkpoints.mkdir(exist_ok=True)
        write_record(layout.run_json, info, durable=True)
    except OSError as error:
        raise InputError(f"{layout.root}: cannot be written ({error.strerror})") from error
    os.environ[HELPER_OF] = str(layout.root)
    return RunRecorder(layout, info)


def new_folder(config: TrainConfig, dataset: str) -> RunLayout:
    """A folder under --output_dir that no other run has.

    Raises:
        InputError: not a plain name, or it cannot be made.
    """
    stem = config.output.run_name or f"{dataset}-{config.trainer.stage}".replace(" ", "-")
    if "/" in stem or stem.startswith("."):
        raise InputError(f"output.run_name: {stem!r} must be a plain folder name")
    base = Path(config.output.output_dir)
    name = f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    for number in range(1, 100):
        layout = RunLayout(base / (name if number == 1 else f"{name}-{number}"))
        try:
            layout.root.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(f"output.output_dir: cannot create {layout.root}: {error.strerror}") from error
        return layout
    raise InputError(f"output.output_dir: {base / name} and 98 more of that name exist; choose another --run_name")


class Outcome:
    """However training ends, the run's final state is written and the user reads one clear line about it."""

    def __init__(self, recorder: RunRecorder) -> None:
        self.recorder = recorder
        self.state = RunState.FAILED
        self.collapsed = False
        """Whether a collapse stopped it (`--on_collapse stop`)."""

    def __enter__(self) -> "Outcome":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        os.environ.pop(HELPER_OF, None)
        recorder, step, message = self.recorder, self.recorder.beat.step, None
        if error is None:
            self.state = RunState.FINISHED
        elif isinstance(error, StopRequested | KeyboardInterrupt):
            self.state = RunState.INTERRUPTED
            if isinstance(error, CollapseStop):
                self.collapsed, message = True, f"stopped by {error}"
            print(f"\nstopped at step {step:,} ({error or 'Ctrl-C'}); go on with\n"
                  f"  python -m backend train --resume_from_checkpoint {recorder.layout.root}", flush=True)  # fmt: skip
            if self.collapsed:
                print(
                    f"or from before the collapse with\n  python -m backend resume {recorder.layout.root} --remedy NAME",
                    flush=True,
                )
        else:
            plain = isinstance(error, InputError | NotSavedError | RankFailedError)
            message = str(error) if plain else f"{type(error).__name__}: {error}"
            recorder.event("error", step, message, **({"rank": error.rank} if isinstance(error, RankFailedError) else {}))
            if recorder.writes or not is_echo(error):
                self._explain(error, message)
        recorder.end(self.state, message)
        return isinstance(error, Exception | StopRequested | KeyboardInterrupt) and not isinstance(error, InputError)

    def _explain(self, error: BaseException, message: str) -> None:
        if isinstance(error, NotSavedError):
            print(f"\nerror: {message}. Free the disk and go on from what was saved last with\n"
                  f"  python -m backend train --resume_from_checkpoint {self.recorder.layout.root}", file=sys.stderr)  # fmt: skip
            return
        log = self.recorder.layout.console
        text = "".join(traceback.format_exception(error))
        try:
            with log.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError:
            print(text, file=sys.stderr)
        if not isinstance(error, InputError):
            step = f"error: training failed after step {self.recorder.beat.step:,}: {message}"
            print(f"\n{step}\nTraceback in {log}; what was saved is in {self.recorder.layout.checkpoints}.", file=sys.stderr)
