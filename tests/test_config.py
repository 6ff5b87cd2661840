"""The options: their names are a promise to people's scripts, and a mistake in one is named, not ignored."""

from pathlib import Path

import orjson
import pytest

from backend import branch, preflight
from backend.__main__ import main
from shared.config import TrainConfig
from shared.configuring import COMMAND_LINE, build_config, group_of_option, read_config_file
from shared.errors import InputError

OLDER_TRAINER = """batch_size num_workers pin_memory gradient_accumulation_steps max_sequence_length precision
    fast_detection disable_metrics_monitoring compile_model use_dynamic_padding devices max_epochs resume_from_checkpoint
    data_dir params_map_path label_path output_dir log_dir verbose"""

FROZEN = {
    "data": """data_dir params_map_path label_path label batch_size batch_events max_sequence_length num_workers pin_memory
        persistent_workers use_dynamic_padding""",
    "model": """latent_dim levels width embedding_dim set_attention inducing_points induce_small_sets set_heads transformer_layers
        transformer_heads dropout decoder decoder_input classifier_measurements""",
    "loss": """beta_schedule beta_max beta_warmup_steps beta_cycle_ramp free_bits free_bits_mode chamfer_weights recon_weight
        prediction_weight loss_weighting prediction_loss focal_gamma positive_weight label_smoothing""",
    "optim": """learning_rate weight_decay lr_schedule lr_warmup_steps gradient_clip_val gradient_accumulation_steps""",
    "trainer": """stage init_from freeze_ratio max_epochs max_steps accelerator devices num_nodes strategy precision compile_model
        gradient_checkpointing val_check_interval limit_val_batches early_stopping_patience checkpoint_every_n_steps seed cpu_threads
        resume_from_checkpoint""",
    "monitor": """disable_metrics_monitoring fast_detection update_frequency plot_frequency window_size probe_patients
        probe_time_budget sensitivity on_collapse remedy kl_target""",
    "output": """output_dir run_name log_dir verbose""",
}
"""Every option by group. Adding one here is the deliberate act; renaming or dropping one breaks scripts and old runs."""


def groups() -> dict[str, list[str]]:
    return {name: list(type(field.default).model_fields) for name, field in TrainConfig.model_fields.items()}


def test_option_names_are_frozen() -> None:
    assert {group: set(names) for group, names in groups().items()} == {
        group: set(names.split()) for group, names in FROZEN.items()
    }


def test_option_names_are_unique_over_groups() -> None:
    names = [name for group in groups().values() for name in group]
    assert len(names) == len(set(names)) == len(group_of_option())
    assert set(names).isdisjoint(groups()), "a group and an option of one name could not be told apart in a config file"


def test_older_trainer_names_are_kept() -> None:
    assert set(group_of_option()) >= set(OLDER_TRAINER.split())


def test_every_option_and_group_is_explained() -> None:
    for field in TrainConfig.model_fields.values():
        group = type(field.default)
        assert group.__doc__
        assert all(option.description for option in group.model_fields.values()), group


def test_older_defaults_are_kept() -> None:
    config = TrainConfig()
    assert (config.data.batch_size, config.data.max_sequence_length, config.optim.gradient_accumulation_steps) == (4, 1000, 2)
    assert (config.optim.gradient_clip_val, config.trainer.val_check_interval, config.trainer.limit_val_batches) == (
        0.5,
        0.1,
        0.1,
    )
    assert (config.loss.free_bits, config.loss.beta_max, config.loss.beta_warmup_steps) == (0.1, 0.1, 5000)


def test_flat_and_grouped_values_and_dashes() -> None:
    flat = build_config({"batch-size": 8, "learning_rate": 1e-3, "chamfer-weights": [1, 2, 3]})
    grouped = build_config({"data": {"batch-size": 8}, "optim": {"learning_rate": 1e-3}, "chamfer_weights": (1, 2, 3)})
    assert flat == grouped
    assert (flat.data.batch_size, flat.optim.learning_rate, flat.loss.chamfer_weights) == (8, 1e-3, (1.0, 2.0, 3.0))


def test_values_lie_over_a_base() -> None:
    base = build_config({"batch_size": 8, "latent_dim": 32})
    config = build_config({"model": {"latent_dim": 64}}, base=base)
    assert (config.data.batch_size, config.model.latent_dim) == (8, 64)
    assert base.model.latent_dim == 32


def test_config_survives_json() -> None:
    config = build_config({"batch_size": 8, "max_sequence_length": None, "stage": "pretrain"})
    assert build_config(orjson.loads(config.model_dump_json())) == config


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"batchsize": 4}, "unknown option 'batchsize'; did you mean 'batch_size'?"),
        ({"fast-detect": True}, "unknown option 'fast_detect'; did you mean 'fast_detection'?"),
        ({"data": {"batch_sise": 4}}, "unknown option 'data.batch_sise'; did you mean 'batch_size'?"),
        ({"optimm": {"learning_rate": 1}}, "unknown option 'optimm'; did you mean 'optim'?"),
        ({"loss": {"learning_rate": 1}}, "unknown option 'loss.learning_rate'; it belongs to 'optim'"),
        ({"model": 5}, "'model' is a group of options: expected a table, got 5"),
        ({"zzz": 1}, "unknown option 'zzz'; see `python -m backend train --help`"),
    ],
)
def test_unknown_keys_name_the_nearest(values: dict[str, object], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        build_config(values, where="my.toml")
    assert str(caught.value) == f"my.toml: {expected}"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"learning_rate": -1}, "optim.learning_rate: Input should be greater than 0, got -1"),
        ({"batch_size": "many"}, "data.batch_size: Input should be a valid integer"),
        ({"stage": "trian"}, "trainer.stage: Input should be 'pretrain', 'train' or 'finetune', got 'trian'"),
        ({"learning_rate": float("nan")}, "optim.learning_rate"),
        ({"beta_max": float("inf")}, "loss.beta_max: Input should be a finite number, got inf"),
        ({"precision": "16"}, "trainer.precision: Input should be 'auto', '32', 'bf16-mixed' or '16-mixed', got '16'"),
        ({"chamfer_weights": [1, 2]}, "loss.chamfer_weights"),
        ({"width": 100, "set_heads": 3}, "model.set_heads: has to divide model.width, which is 100, got 3"),
        ({"on_collapse": "stopp"}, "monitor.on_collapse: no such action; did you mean 'stop'?"),
        ({"on_collapse": "remedy:beta_cat"}, "monitor.on_collapse: no such action; did you mean 'remedy:beta_cut'?"),
        ({"remedy": "betacut"}, "monitor.remedy: no remedy 'betacut'; did you mean 'beta_cut'?"),
        ({"remedy": "beta_cut", "on_collapse": "remedy:free_bits"}, "monitor: on_collapse: beta_cut is applied already"),
        ({"width": 66}, "model.transformer_heads: has to divide model.width, which is 66, got 4"),
    ],
)
def test_bad_values_name_the_dotted_key(values: dict[str, object], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        build_config(values)
    assert str(caught.value).startswith(f"options: {expected}")


def test_bad_values_of_a_command_line_name_the_option() -> None:
    with pytest.raises(InputError, match=r"command line: --beta_max: .*greater than or equal to 0, got '-1'"):
        build_config({"beta_max": "-1"}, where=COMMAND_LINE)


def test_every_bad_value_is_named_at_once() -> None:
    with pytest.raises(InputError, match=r"data\.batch_size.*optim\.learning_rate"):
        build_config({"batch_size": 0, "learning_rate": 0})


# Files


def test_toml_and_json_files(tmp_path: Path) -> None:
    toml, json = tmp_path / "a.toml", tmp_path / "a.json"
    toml.write_text('batch-size = 8\nrun_name = "münchen"\n[model]\nlatent_dim = 32\n', encoding="utf-8")
    json.write_text('{"batch-size": 8, "run_name": "münchen", "model": {"latent_dim": 32}}', encoding="utf-8")
    assert build_config(read_config_file(toml)) == build_config(read_config_file(json))
    assert build_config(read_config_file(toml)).output.run_name == "münchen"


def test_run_json_serves_as_config_file(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(orjson.dumps({"name": "x", "state": "finished", "config": build_config({"seed": 7}).model_dump()}))
    assert build_config(read_config_file(path)).trainer.seed == 7


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.toml", b"x = 1\nbatch_size = \n", "line 2"),
        ("a.json", b'{\n"batch_size": }', "line 2"),
        ("a.json", b"[1]", "expected a table of options"),
        ("a.toml", b"name = '\xff'", "utf-8"),
        ("a.yaml", b"batch_size: 4", "ends in .toml or .json"),
        ("a.toml", None, "No such file"),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, name: str, content: bytes | None, expected: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=expected) as caught:
        read_config_file(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("command", "shown"), [("resume", branch.SHOWN), ("preflight", preflight.SHOWN)])
def test_help_of_what_takes_options_of_train_shows_a_few_and_says_where_all_are(capsys, command, shown):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert [name for name in group_of_option() if f"--{name} " in text] == [name for name in group_of_option() if name in shown]
    assert set(shown) <= set(group_of_option()) and "python -m backend train --help" in text
