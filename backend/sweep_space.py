"""What a sweep tries: a TOML file of options for all trials, and a table of ranges and lists of choices."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.config import TrainConfig
from shared.configuring import build_config, group_of_option, read_config_file
from shared.errors import InputError

METRICS = {"auroc": "maximize", "auprc": "maximize", "accuracy": "maximize", "elbo": "maximize", "loss": "minimize",
           "recon": "minimize", "prediction": "minimize"}  # fmt: skip
"""Scores of the whole validation split, and which way is better."""

SAME_FOR_ALL = (
    "output.output_dir",
    "output.run_name",
    "trainer.resume_from_checkpoint",
    "trainer.devices",
    "trainer.num_nodes",
)
"""Options that place a run, which is the sweep's own work."""


class Settings(BaseModel):
    """The `[sweep]` table without its ranges."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = None
    metric: Literal["auroc", "auprc", "accuracy", "elbo", "loss", "recon", "prediction"] = "auroc"
    direction: Literal["maximize", "minimize"] | None = None
    trials: int = Field(default=20, ge=1)
    pruner: Literal["none", "median"] = "none"


class Range(BaseModel):
    """Numbers from `low` to `high`, both included; `log`: as many in each decade."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Space:
    """A sweep as its file describes it."""

    name: str
    base: TrainConfig
    metric: str
    direction: str
    trials: int
    pruner: str
    options: dict[str, BaseDistribution]
    """By dotted name, such as "loss.beta_max"."""

    def config(self, chosen: Mapping[str, Any]) -> TrainConfig:
        """The configuration of one trial. Raises InputError where its options do not go together."""
        values: dict[str, dict[str, Any]] = {}
        for name, value in chosen.items():
            group, _, option = name.partition(".")
            values.setdefault(group, {})[option] = value
        return build_config(values, where="options", base=self.base)

    def words(self, chosen: Mapping[str, Any]) -> list[str]:
        """The options of one trial, for the command line of `train`."""
        return [word for name, value in chosen.items() for word in (f"--{name.partition('.')[2]}", str(value))]


def read_space(path: Path) -> Space:
    """The sweep of a file.

    Raises:
        InputError: names the file, the field and the value, and what would do.
    """
    values = read_config_file(path)
    table = values.pop("sweep", None)
    if not isinstance(table, dict):
        raise InputError(
            f'{path}: has no [sweep] table; one with "loss.beta_max" = {{low = 0.01, high = 1.0, log = true}} would do'
        )
    base = build_config(values, where=str(path))
    _check_base(path, base)
    given = {name: table.pop(name) for name in list(table) if name not in Settings.model_fields}
    settings = _settings(path, table)
    options: dict[str, BaseDistribution] = {}
    for name, wanted in _flat(given).items():
        dotted = _dotted(path, name)
        if dotted in SAME_FOR_ALL:
            raise InputError(f"{path}: sweep.{dotted}: got {wanted!r}, and it is the same for all trials; set it above [sweep]")
        options[dotted] = _distribution(f"{path}: sweep.{dotted}", dotted, wanted, base)
    if not options:
        raise InputError(
            f'{path}: [sweep] names no option to try; add one such as "optim.learning_rate" = {{low = 1e-4, high = 1e-2}}'
        )
    _check_metric(path, settings.metric, base, options)
    name = settings.name or path.stem
    if "/" in name or name.startswith("."):
        raise InputError(f"{path}: sweep.name: {name!r} must be a plain name, for it begins the names of the runs")
    return Space(
        name, base, settings.metric, settings.direction or METRICS[settings.metric], settings.trials, settings.pruner, options
    )


def _dotted(path: Path, name: str) -> str:
    """An option with its group, as `loss.beta_max`, by its name with or without it."""
    groups = group_of_option()
    group, dot, option = name.rpartition(".")
    if groups.get(option) is None or (dot and groups[option] != group):
        near = difflib.get_close_matches(name, Settings.model_fields, n=1)
        if near:
            raise InputError(f"{path}: sweep.{name}: unknown; did you mean {near[0]!r}?")
        build_config({name: None} if not dot else {group: {option: None}}, where=f"{path}: sweep")  # says what is near
        raise InputError(f"{path}: sweep.{name}: no such option; see `python -m backend train --help`")
    return f"{groups[option]}.{option}"


def _settings(path: Path, table: dict[str, Any]) -> Settings:
    try:
        return Settings.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("sweep", *first["loc"])))
        raise InputError(f"{path}: {where}: {first['msg']}, got {first['input']!r}") from error


def _check_base(path: Path, base: TrainConfig) -> None:
    trainer = base.trainer
    if trainer.resume_from_checkpoint is not None:
        raise InputError(
            f"{path}: trainer.resume_from_checkpoint: {trainer.resume_from_checkpoint!r}, and trials are new runs; start them from its "
            "weights with init_from"
        )
    if trainer.num_nodes > 1:
        raise InputError(
            f"{path}: trainer.num_nodes: {trainer.num_nodes}, and a sweep starts trainings on one machine; leave it out"
        )


def _check_metric(path: Path, metric: str, base: TrainConfig, options: Mapping[str, BaseDistribution]) -> None:
    """Refuse a score that no trial, or not every one, will have: to be told after days of training is late."""

    def tried(name: str, fixed: str) -> Sequence[str]:
        chosen = options.get(name)
        return chosen.choices if isinstance(chosen, CategoricalDistribution) else (fixed,)  # type: ignore[return-value]

    for stage in tried("trainer.stage", base.trainer.stage):
        for decoder in tried("model.decoder", base.model.decoder):
            gone = {"auroc", "auprc", "accuracy", "prediction"} if stage == "pretrain" else set()
            gone |= {"recon", "elbo"} if stage == "finetune" else {"elbo"} if decoder == "chamfer" else set()
            if metric in gone:
                there = ", ".join(name for name in METRICS if name not in gone)
                raise InputError(
                    f"{path}: sweep.metric: {metric!r}, which stage {stage!r} with decoder {decoder!r} does not have; it has: {there}"
                )


def _flat(given: Mapping[str, Any]) -> dict[str, Any]:
    """`loss.beta_max` without quotes is a table in a table."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, dict) and not {"low", "high"} & value.keys():
            found |= {f"{name}.{inner}": wanted for inner, wanted in value.items()}
        else:
            found[name] = value
    return found


def _distribution(where: str, dotted: str, wanted: Any, base: TrainConfig) -> BaseDistribution:
    group, _, option = dotted.partition(".")
    if isinstance(wanted, list) and wanted:
        for choice in wanted:
            build_config({group: {option: choice}}, where=where, base=base)
        return CategoricalDistribution(wanted)
    if not isinstance(wanted, dict):
        raise InputError(f"{where}: {wanted!r} is neither a range {{low = .., high = ..}} nor a list of choices")
    try:
        chosen = Range.model_validate(wanted)
    except ValidationError as error:
        first = max(error.errors(), key=lambda fault: fault["type"] == "extra_forbidden")
        place = ".".join(map(str, first["loc"]))
        if first["type"] in ("extra_forbidden", "missing"):
            what = "unknown" if first["type"] == "extra_forbidden" else "missing"
            raise InputError(f"{where}.{place}: {what}; a range is {{low = .., high = ..}} or has log = true, too") from error
        raise InputError(f"{where}.{place}: {first['msg']}, got {first['input']!r}") from error
    if chosen.low >= chosen.high:
        raise InputError(f"{where}: low has to be below high, got low {chosen.low:g} and high {chosen.high:g}")
    if chosen.log and chosen.low <= 0:
        raise InputError(f"{where}.low: a range with log begins above 0, got {chosen.low:g}")
    annotation = type(getattr(base, group)).model_fields[option].annotation
    whole = int in (get_args(annotation) or (annotation,))
    for end in (chosen.low, chosen.high):
        build_config({group: {option: int(end) if whole and end.is_integer() else end}}, where=where, base=base)
    if whole:
        return IntDistribution(int(chosen.low), int(chosen.high), log=chosen.log)
    return FloatDistribution(chosen.low, chosen.high, log=chosen.log)
