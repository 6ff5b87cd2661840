"""What may become a job: argument lists are read as the backend reads them, and refused where they would do harm."""

import argparse
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.__main__ import normalise
from backend.options import add_arguments, given_options
from dashboard.jobs.options import Option, check, option, options, words_of
from dashboard.jobs.presets import PRESETS
from dashboard.jobs.words import COMMANDS, parse
from dashboard.jobs.words import check as check_words
from shared.config import TrainConfig
from shared.configuring import build_config, group_of_option
from shared.errors import InputError
from tests.run_factory import make_run

PARSER = argparse.ArgumentParser(allow_abbrev=False)
add_arguments(PARSER)


def as_the_backend_reads(words: list[str]) -> TrainConfig:
    return build_config(given_options(PARSER.parse_args(normalise(words))))


def values(each: Option) -> st.SearchStrategy[Any]:
    """Values of the right kind, many of them refused by the limits."""
    kinds = {
        "flag": st.booleans(), "whole": st.integers(0, 5000), "number": st.floats(0, 2), "text": st.text(min_size=1, max_size=20),
        "choice": st.sampled_from(each.choices or ("x",)), "numbers": st.tuples(*[st.floats(0, 9)] * 3),
    }  # fmt: skip
    return kinds[each.kind] if not each.optional or each.is_flag else st.none() | kinds[each.kind]


def test_every_option_of_the_trainer_is_in_the_form_with_kind_and_explanation() -> None:
    assert [each.name for each in options()] == list(group_of_option())
    assert all(each.description and each.allowed for each in options())
    assert option("dropout").allowed == "a number at least 0 and below 1"
    assert option("max_steps").allowed == "a whole number at least 1, or none"
    assert "remedy:beta_cut" in option("on_collapse").choices
    for each in options():
        assert check({each.name: each.type(each.write(each.default))}) == (TrainConfig(), {}), each.name


@given(st.data())
def test_words_say_to_the_backend_what_the_form_holds(data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(options()), max_size=8, unique=True))
    config, _ = check({each.name: data.draw(values(each), label=each.name) for each in chosen})
    if config is None or any(
        "\0" in str(value) or str(value).lower() == "none" for value in config.output.model_dump().values()
    ):
        return
    words = words_of(config)
    assert as_the_backend_reads(words) == config
    assert build_config(parse(words)) == config


@given(st.lists(st.text(string.ascii_letters + "-_=./ \n\0☃", max_size=12), max_size=6))
def test_any_words_are_read_or_refused_with_one_error(words: list[str]) -> None:
    try:
        found = parse(words)
    except InputError:
        return
    assert set(found) <= set(group_of_option())


@pytest.mark.parametrize("key", PRESETS)
def test_presets_fit_the_trainer_and_say_why(key: str) -> None:
    preset = PRESETS[key]
    config, problems = check(preset.values)
    assert problems == {} and config is not None and config != TrainConfig()
    assert preset.why and preset.trades
    assert all(getattr(getattr(TrainConfig(), group_of_option()[name]), name) != value for name, value in preset.values.items())


def test_errors_name_option_value_and_what_is_allowed() -> None:
    _, problems = check({"batch_size": "0", "learning_rate": "fast", "set_heads": "3", "width": "64"})
    assert problems == {
        "batch_size": "data.batch_size: expected a whole number at least 1, got '0'",
        "learning_rate": "optim.learning_rate: expected a number above 0, got 'fast'",
        "set_heads": "model.set_heads: has to divide model.width, which is 64, got '3'",
    }
    _, both = check({"remedy": "beta_cut", "on_collapse": "remedy:free_bits"})
    assert list(both) == ["monitor"] and "two would pull" in both["monitor"]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    (make_run(folder, "old", steps=5).root / "checkpoints").mkdir()
    (folder / "old" / "checkpoints" / "last.ckpt").touch()
    return folder


@pytest.mark.parametrize(
    "words",
    [
        "train --data_dir d --output_dir {runs} --batch-size=8 --no-persistent-workers",
        "train --resume_from_checkpoint {runs}/old/checkpoints/last.ckpt --learning_rate 1e-4",
        "train --resume_from_checkpoint {runs}/old",
        "resume {runs}/old --remedy beta_cut --from {runs}/old/checkpoints/last.ckpt --max_steps 9",
        "preflight --data d --width 64",
        "diagnose {runs}/old --json",
        "visualize {runs}/old/checkpoints/last.ckpt --max_batches 3",
        "umap {runs}/old",
    ],
)
def test_what_pages_offer_is_let_through_unchanged(runs: Path, words: str) -> None:
    given = words.format(runs=runs).split()
    assert check_words(given, runs) == given


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "'' cannot be started from here"),
        ("prepare simulate x", "'prepare' cannot be started from here"),
        ("--help", "'--help' cannot be started"),
        ("train --output_dir /tmp", "output.output_dir: jobs write into this dashboard's folder"),
        ("train --data_dir x", "output.output_dir: jobs write into"),
        ("train --output_dir {runs}/..", "output.output_dir"),
        ("train --output_dir {runs} --log_dir {runs}/../plots", "output.log_dir: jobs write nothing outside"),
        ("train --output_dir {runs} --batch_size 0", "data.batch_size: Input should be greater than or equal to 1"),
        ("train --output_dir {runs} --batchsize 4", "did you mean '--batch_size'?"),
        ("train --output_dir {runs} --config x.toml", "unknown option '--config'"),
        ("train --output_dir {runs} --batch_size", "data.batch_size: no value given"),
        ("train --output_dir {runs} --verbose=yes", "output.verbose: --verbose or --no_verbose switches it"),
        ("train --resume_from_checkpoint {runs}/../other", "is neither a run in"),
        ("train --resume_from_checkpoint {runs}/old --output_dir /tmp", "output.output_dir"),
        ("preflight --resume_from_checkpoint {runs}/old", "preflight looks at runs that are to begin"),
        ("resume", "the run to go back in is missing"),
        ("resume /etc --remedy beta_cut", "is neither a run in"),
        ("resume {runs}/old --remedy magic", "no remedy 'magic'"),
        ("resume {runs}/old --from {runs}/other/checkpoints/last.ckpt", "is neither a run in"),
        ("visualize {runs}/old --out /tmp/x", "'/tmp/x' is outside"),
        ("visualize {runs}/old --out=../x", "'../x' is outside"),
        ("umap /etc/passwd", "is neither a run in"),
        ("diagnose", "the run is missing"),
    ],
)
def test_what_would_run_or_write_elsewhere_is_refused(runs: Path, words: str, says: str) -> None:
    with pytest.raises(InputError) as refused:
        check_words(words.format(runs=runs).split(), runs)
    assert says in str(refused.value)


def test_a_link_out_of_the_runs_folder_is_no_run(runs: Path, tmp_path: Path) -> None:
    elsewhere = make_run(tmp_path / "elsewhere", "theirs", steps=5).root
    (runs / "link").symlink_to(elsewhere)
    for command in COMMANDS:
        words = [command, "--resume_from_checkpoint"] if command in ("train", "preflight") else [command]
        with pytest.raises(InputError):
            check_words([*words, str(runs / "link")], runs)
