"""What a training says of itself while it runs, on a terminal or not."""

from types import SimpleNamespace

import pytest

from backend import progress
from backend.lit import SeqSetVAEModule
from backend.progress import Progress


def test_what_was_held_back_is_said_before_an_error(capsys: pytest.CaptureFixture[str]):
    module, trainer = object.__new__(SeqSetVAEModule), SimpleNamespace(global_step=0, state=SimpleNamespace(fn="fit"))
    shown = Progress(SimpleNamespace())
    for trainer.global_step in (1, 2):
        module.validation = {"auroc": None}
        shown.on_validation_end(trainer, module)
    shown.on_exception(trainer, module, ValueError())
    assert capsys.readouterr().out.splitlines()[1:] == ["step 2 validation: auroc undefined (one class)"]


def test_frequent_validations_are_counted_and_the_last_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    module, trainer = object.__new__(SeqSetVAEModule), SimpleNamespace(global_step=0, state=SimpleNamespace(fn="fit"))
    shown = Progress(SimpleNamespace())
    for step in range(1, 13):
        trainer.global_step, module.validation = step, {"auroc": step / 100}
        now[0] += 3.0
        shown.on_validation_end(trainer, module)
    shown.on_train_end(trainer, module)
    assert capsys.readouterr().out.splitlines() == [
        "step 1 validation: auroc 0.0100",
        "step 7 validation: auroc 0.0700  (and 5 before it)",
        "step 12 validation: auroc 0.1200  (and 4 before it)",
    ]
