"""What stands in the form: where it started from, what was typed over that, and the command that follows. No widgets here."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dashboard.checkpoints.listing import file_names
from dashboard.jobs.options import check, option, options, values_of, words_of
from dashboard.jobs.presets import PRESETS
from dashboard.jobs.words import parse
from dashboard.runs.loading import resolve_run
from dashboard.widgets import IMPORTED
from shared.config import FIXED_ON_RESUME, TrainConfig
from shared.configuring import build_config
from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import read_record
from shared.schema import RunInfo

CHOSEN_ELSEWHERE = ("data_dir", "output_dir", "log_dir", "resume_from_checkpoint", "devices")
"""Not fields of the form: the data set and the devices are chosen above it, the rest is fixed."""

EARLIER = "the earlier job"


@dataclass
class Draft:
    """A command in the making."""

    origin: str
    """Preset, run or checkpoint, as a person reads it."""
    start: dict[str, Any] = field(default_factory=dict)
    """Values over the defaults that it began with."""
    typed: dict[str, Any] = field(default_factory=dict)
    """What was entered since, by option, as `build_config` takes it."""
    target: Path | None = None
    """Checkpoint or run folder that is resumed."""
    resumed: TrainConfig | None = None
    """Its configuration."""
    devices: dict[str, Any] = field(default_factory=dict)
    """Options that follow from the devices chosen."""
    runs: Path = Path("runs")
    generation: int = 0
    """Counts drafts up, so that a field of the last one is not taken for one of this."""

    @property
    def source(self) -> str:
        """Where values come from that are not the defaults, in a word or two."""
        return self.origin if self.origin in (EARLIER, *(preset.title for preset in PRESETS.values())) else "the run"

    @property
    def values(self) -> dict[str, Any]:
        """All that differs from the defaults, or from the resumed run."""
        forced = {} if self.target is not None else {"output_dir": str(self.runs), "log_dir": None}
        return self.start | self.typed | self.devices | forced

    def shown(self, name: str) -> Any:
        """The value of an option as it stands."""
        return self.values.get(name, self.untouched(name))

    def untouched(self, name: str) -> Any:
        """Its value before anything was typed."""
        base = values_of(self.resumed)[name] if self.resumed is not None else option(name).default
        return self.start.get(name, base)

    def enter(self, name: str, value: Any) -> None:
        """Take over what was typed; what is as before counts as untouched."""
        each = option(name)
        if value == self.untouched(name) or (isinstance(value, str) and value == each.write(self.untouched(name))):
            self.typed.pop(name, None)
        else:
            self.typed[name] = value

    def fixed(self, name: str) -> bool:
        """Whether the resumed checkpoint cannot follow a change of it."""
        return self.target is not None and (option(name).group == "model" or option(name).key in FIXED_ON_RESUME)

    def checked(self) -> tuple[TrainConfig | None, dict[str, str]]:
        """The configuration, or None; and what is wrong, by option or group."""
        return check(self.values, self.resumed)

    def changed(self, config: TrainConfig | None) -> list[str]:
        """Options that differ from the default, or from the resumed run, and those that were typed wrongly."""
        if config is None:
            return [each.name for each in options() if each.name in self.values and each.name not in CHOSEN_ELSEWHERE]
        before, after = values_of(self.resumed or TrainConfig()), values_of(config)
        return [each.name for each in options() if before[each.name] != after[each.name] and each.name not in CHOSEN_ELSEWHERE]

    def words(self, config: TrainConfig, command: str = "train") -> list[str]:
        """The argument list after `python -m backend`: only what differs.

        Raises:
            InputError: something that no command line can say.
        """
        if self.target is not None:
            same = {
                name: values_of(self.resumed or config)[name] for name in ("output_dir", "log_dir", "resume_from_checkpoint")
            }
            return [
                command,
                "--resume_from_checkpoint",
                str(self.target),
                *words_of(build_config(same, base=config), self.resumed),
            ]
        return [command, *words_of(config, always=("data_dir", "output_dir"))]


def from_preset(key: str, runs: Path) -> Draft:
    """A new run with the values of a preset."""
    preset = PRESETS[key]
    return Draft(preset.title, dict(preset.values), runs=runs)


def from_run(name: str, runs: Path) -> Draft:
    """A new run with the configuration of another.

    Raises:
        InputError: there is no such run, or its run.json cannot be read.
    """
    layout, config, data = _run(name, runs, "from")
    values = {key: value for key, value in values_of(config).items() if value != option(key).default}
    for gone in ("output_dir", "log_dir", "resume_from_checkpoint", "devices"):
        values.pop(gone, None)
    return Draft(layout.root.name, values | data, runs=runs)


def from_checkpoint(target: str, runs: Path) -> Draft:
    """A run gone on with, from `RUN/FILE.ckpt`, or from `RUN`: its furthest checkpoint.

    Raises:
        InputError: there is no such run or checkpoint, or its run.json cannot be read.
    """
    name, _, file = target.partition("/")
    layout, config, data = _run(name, runs, "resume")
    path = layout.root
    if file:
        path = layout.checkpoints / file
        if file not in file_names(layout):
            raise InputError(f"resume: {name} has no checkpoint {file!r}; choose another")
    return Draft(target, data, target=path, resumed=config, runs=runs)


def _run(name: str, runs: Path, asked: str) -> tuple[RunLayout, TrainConfig, dict[str, Any]]:
    """A run, its configuration, and where its data lay in full: its own --data_dir may have been relative to another folder."""
    layout = resolve_run(runs, name)
    if layout is None:
        raise InputError(f"{asked}: there is no run {name!r} in {runs}; choose another")
    info = read_record(layout.run_json, RunInfo)
    if asked == "resume" and info.imported is not None:
        raise InputError(f"resume: {name} was {IMPORTED}; resume it with its own program, and import again")
    config = build_config(info.config, where=str(layout.run_json))
    moved = info.dataset is not None and not Path(config.data.data_dir).is_absolute()
    return layout, config, {"data_dir": info.dataset.path} if moved and info.dataset is not None else {}


def from_words(words: list[str], runs: Path) -> Draft:
    """The options of an earlier job, to change and start again.

    Raises:
        InputError: they can no longer be read.
    """
    values = parse(words[1:])
    target = values.pop("resume_from_checkpoint", None)
    if target is not None:
        path = Path(target)
        name = f"{path.parent.parent.name}/{path.name}" if path.suffix == ".ckpt" else path.name
        draft = from_checkpoint(name, runs)
        draft.typed = values
        return draft
    values.pop("output_dir", None)
    return Draft(EARLIER, values, runs=runs)
