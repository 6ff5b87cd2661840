"""`python -m backend resume RUN --remedy NAME`: from before the onset, as a new run that knows where it comes from."""

import shutil
from pathlib import Path

import orjson
import pytest
import torch

from backend.__main__ import main
from backend.branching import before
from backend.checkpoints import load_checkpoint
from shared.layout import RunLayout
from tests.tiny_runs import evaluations, events, go_on, info, metrics, newest, start, stays

__all__ = ["stays"]
ONSET = 14


def rewritten(run: RunLayout, lost_from: int | None) -> RunLayout:
    """Its evaluations as those of a posterior that is healthy, and lost from a step on."""
    lines = []
    for row in evaluations(run, "probe") + evaluations(run, "validation"):
        if row["kind"] == "probe":
            lost = lost_from is not None and row["step"] >= lost_from
            row |= {"mi_gauss": 0.0 if lost else 5.0, "kl": 0.0 if lost else 5.0, "active_units": 0 if lost else 4}
            row |= {"active_ratio": 0.0 if lost else 1.0, "decoder_reliance": 0.0 if lost else 1.0, "patients": 64}
            row |= {"explained": 0.0 if lost else 0.5, "residual_eigenvalue": 0.001}
        lines.append(row)
    run.evaluations.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in sorted(lines, key=lambda row: row["step"])))
    return run


@pytest.fixture(scope="module")
def trained(stays: Path, tmp_path_factory: pytest.TempPathFactory) -> RunLayout:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("backend.training.in_sight", lambda monitor: False)
        return start(stays, tmp_path_factory.mktemp("trained"), update_frequency=1, beta_warmup_steps=2)


@pytest.fixture
def collapsed(trained: RunLayout, tmp_path: Path) -> RunLayout:
    return rewritten(RunLayout(Path(shutil.copytree(trained.root, tmp_path / trained.root.name))), ONSET)


def contents(run: RunLayout) -> dict[str, bytes]:
    return {str(path.relative_to(run.root)): path.read_bytes() for path in run.root.rglob("*") if path.is_file()}


def test_goes_back_to_the_best_checkpoint_before_the_onset(collapsed, capsys):
    untouched = contents(collapsed)
    assert main(["resume", str(collapsed.root), "--remedy", "beta_cut"]) == 0
    assert contents(collapsed) == untouched, "the other run is not touched"
    run = newest(collapsed.root.parent)
    lineage, config = info(run).lineage, info(run).config
    assert run.root != collapsed.root and run.root.name.startswith("simulated-60-train-beta_cut-")
    assert (lineage.run, lineage.onset, lineage.verdict, lineage.remedy) == (collapsed.root.name, ONSET, "collapse", "beta_cut")
    source = collapsed.checkpoints / lineage.checkpoint
    assert 0 < lineage.step == load_checkpoint(source)["global_step"] < ONSET
    assert config["monitor"]["remedy"] == "beta_cut" and info(run).sessions[0].from_step == lineage.step
    assert metrics(run)[: lineage.step] == metrics(collapsed)[: lineage.step]
    assert [row["step"] for row in metrics(run)] == list(range(1, 18)) and info(run).state == "finished"
    assert {event["data"]["remedy"] for event in events(run, "remedy")} == {"beta_cut"}
    said = capsys.readouterr()
    assert f"beta_cut on {collapsed.root.name} from step {lineage.step}" in said.out
    assert "REMEDY: step" in said.err and ": beta_cut: watches" in said.err


def test_without_a_name_the_first_remedy_of_the_verdict(collapsed):
    assert main(["resume", str(collapsed.root), "--max_steps", "15"]) == 0
    assert info(newest(collapsed.root.parent)).lineage.remedy == "beta_cut"


def test_the_best_by_score_then_the_latest_then_the_start(collapsed):
    best = sorted(path for path in collapsed.checkpoints.glob("best_*.ckpt"))
    assert before(collapsed, 18) == max(best, key=lambda path: (float(path.stem.rpartition("-")[2]), path.name))
    for path in collapsed.checkpoints.glob("best_*"):
        path.unlink()
    assert before(collapsed, ONSET).name == "earlier_step-000000012.ckpt"
    (collapsed.checkpoints / "earlier_step-000000012.ckpt").write_bytes(b"torn")
    for path in collapsed.checkpoints.glob("earlier_step-000000009*"):
        path.unlink()
    assert before(collapsed, ONSET) is None


def test_from_the_first_step_where_nothing_was_kept_before(collapsed):
    for path in collapsed.checkpoints.glob("*.ckpt"):
        path.unlink()
    assert main(["resume", str(collapsed.root), "--remedy", "free_bits", "--max_steps", "4"]) == 0
    run = newest(collapsed.root.parent)
    assert (info(run).lineage.checkpoint, info(run).lineage.step) == (None, 0)
    assert metrics(run)[0] == metrics(collapsed)[0], "the same weights, data and noise"


def test_a_chosen_checkpoint_and_its_full_state(collapsed):
    last = collapsed.checkpoints / "earlier_step-000000012.ckpt"
    assert main(["resume", str(collapsed.root), "--remedy", "pi_control", "--from", str(last), "--max_steps", "13"]) == 0
    run = newest(collapsed.root.parent)
    assert info(run).lineage.step == 12
    ours, theirs = (
        load_checkpoint(last)["optimizer_states"][0],
        load_checkpoint(run.checkpoints / "last.ckpt")["optimizer_states"][0],
    )
    assert {int(state["step"]) for state in theirs["state"].values()} == {13}
    assert not torch.equal(ours["state"][0]["exp_avg"], theirs["state"][0]["exp_avg"])


def test_the_new_run_is_a_run_like_any_other(collapsed):
    assert main(["resume", str(collapsed.root), "--remedy", "beta_cut", "--max_steps", "15"]) == 0
    run = newest(collapsed.root.parent)
    assert go_on(run.root, max_steps=16) == 0
    assert metrics(run)[-1]["step"] == 16 and info(run).lineage is not None
    assert info(run).config["monitor"]["remedy"] == "beta_cut"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--remedy", "beta_cut"], "its verdicts name no collapse, so there is no moment to go back to"),
        ([], "say which and where from (--remedy NAME --from CKPT)"),
        (["--remedy", "beta_cat"], "--remedy: no remedy 'beta_cat'; did you mean 'beta_cut'?"),
    ],
)
def test_a_run_without_a_collapse_is_one_clear_error(trained, tmp_path, capsys, words, told):
    healthy = rewritten(RunLayout(Path(shutil.copytree(trained.root, tmp_path / "healthy"))), None)
    start = ["--from", str(healthy.checkpoints / "last.ckpt")] if "beta_cat" in words else []
    assert main(["resume", str(healthy.root), *words, *start]) == 2
    assert told in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["healthy"], "no folder is left behind"


def test_what_is_no_run_or_no_checkpoint_of_it_is_named(collapsed, tmp_path, capsys):
    assert main(["resume", str(tmp_path / "nowhere"), "--remedy", "beta_cut"]) == 2
    assert "no such run folder" in capsys.readouterr().err
    assert main(["resume", str(tmp_path), "--remedy", "beta_cut"]) == 2
    assert "not a run folder" in capsys.readouterr().err
    shutil.copy(collapsed.checkpoints / "last.ckpt", tmp_path / "x.ckpt")
    assert main(["resume", str(collapsed.root), "--remedy", "beta_cut", "--from", str(tmp_path / "x.ckpt")]) == 2
    assert "has to be one of the checkpoints in" in capsys.readouterr().err
