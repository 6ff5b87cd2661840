"""The arithmetic of steering beta: bounds for any course of the figures, anti-windup, hysteresis, and what counts as enough."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.beta_control import BetaCut, PIController
from backend.steering import BETA_FLOOR, MOST_EVENTS, Aim
from shared.collapse import Verdict

FIGURES = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(st.tuples(FIGURES, st.integers(1, 50)), max_size=200), st.floats(-10, 10))
def test_pi_stays_in_bounds_for_any_course_of_errors(course, integral):
    controller = PIController(low=BETA_FLOOR, integral=integral)
    for error, steps in course:
        assert BETA_FLOOR <= controller.update(error, steps) <= 1.0
        assert -0.1 <= controller.integral <= 1.0, "the sum holds no more than the output can show"


@pytest.mark.parametrize(("error", "bound"), [(1.0, BETA_FLOOR), (-1.0, 1.0)])
def test_the_integral_does_not_wind_while_clipped_and_leaves_at_once(error, bound):
    controller, naive = PIController(low=BETA_FLOOR), 0.0
    for _ in range(5000):
        clipped = controller.update(error)
        naive -= controller.ki * error
    assert clipped == bound
    wound = controller.integral
    for _ in range(100):
        controller.update(error)
    assert controller.integral == wound
    back = [controller.update(-error) for _ in range(5)]
    assert all(abs(output - bound) > 0 for output in back), "it leaves the bound with the first error of the other sign"
    steps_to_unwind = abs(naive) / controller.ki
    assert steps_to_unwind > 4000, "without anti-windup it would stay there for that long"


def test_pi_settles_on_a_plant_with_lag():
    """Information falls with the logarithm of beta and follows it slowly, as in a training."""
    from math import log

    controller, information = PIController(low=BETA_FLOOR), 0.0
    controller.start_at(1.0)
    course = []
    for _ in range(4000):
        output = controller.update((2.0 - information) / 2.0)
        information += 0.02 * (0.5 * log(1 / output) - information)
        course.append(information)
    assert course[-500:] == pytest.approx([2.0] * 500, rel=0.02)
    assert max(course) < 2.0 * 1.6


def test_starts_without_a_jump():
    for output in (0.01, 0.3, 1.0):
        controller = PIController(low=BETA_FLOOR)
        controller.start_at(output)
        assert controller.update(0.0) == pytest.approx(output)


class Recorder:
    """In place of a run."""

    def __init__(self) -> None:
        self.info = SimpleNamespace(lineage=None)
        self.rows: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []

    def evaluations(self, kind: str) -> list[dict[str, Any]]:
        return self.rows

    def event(self, kind: str, step: int, message: str, /, **data: Any) -> None:
        self.events.append({"step": step, "message": message, **data})


def row(information: float, active: float = 1.0, reliance: float = 1.0, **more: float) -> dict[str, float]:
    return {
        "mi_gauss": information,
        "active_ratio": active,
        "decoder_reliance": reliance,
        "latent_dims": 8,
        "beta": 1.0,
        **more,
    }


class Training:
    """A cut remedy, and the evaluations that it is told of."""

    def __init__(
        self, beta: float = 1.0, *, rows: tuple[dict[str, float], ...] = (), waiting: bool = True, step: int = 1000
    ) -> None:
        self.recorder, self.module = Recorder(), SimpleNamespace(beta=beta)
        self.recorder.rows = list(rows)
        self.monitor: Any = SimpleNamespace(recorder=self.recorder, row=rows[-1] if rows else {}, evaluated_step=step)
        self.trainer: Any = SimpleNamespace(
            global_step=step, world_size=1, estimated_stepping_batches=10_000, strategy=SimpleNamespace(broadcast=lambda told: told)
        )  # fmt: skip
        self.cut = BetaCut(self.monitor, waiting=waiting)
        self.cut.on_train_start(self.trainer, self.module)
        if waiting:
            self.cut.start(self.trainer, self.module)

    def sees(self, evaluation: dict[str, float]) -> float:
        """Beta after one more evaluation."""
        self.trainer.global_step += 100
        self.monitor.row, self.monitor.evaluated_step = evaluation, self.trainer.global_step
        self.cut.on_train_batch_end(self.trainer, self.module, None, None, 0)
        return self.module.beta


def test_cuts_by_half_until_there_is_information_and_keeps_what_then_holds():
    training = Training(rows=(row(0.0, 0.0, 0.0),))
    assert training.module.beta == 0.5
    assert [training.sees(row(0.0, 0.0, 0.0)) for _ in range(3)] == [0.25, 0.125, 0.0625]
    assert [training.sees(row(5.0)) for _ in range(5)] == [0.0625] * 5, "enough, and not half as much again: nothing moves"
    assert [event["action"] for event in training.recorder.events] == ["cut"] * 4


def test_a_cut_is_given_time_while_information_rises():
    training = Training(rows=(row(0.0, 0.0, 0.0),))
    assert [training.sees(row(value)) for value in (0.2, 0.4, 0.8, 0.8)] == [0.5, 0.5, 0.5, 0.25]


def test_a_cut_goes_where_a_collapse_is_no_longer_stable():
    training = Training(beta=40.0, rows=(row(0.0, 0.0, 0.0, residual_eigenvalue=0.5),))
    assert training.module.beta == 0.25
    assert Training(beta=40.0, rows=(row(0.0, 0.0, 0.0),)).module.beta == 1.0


def test_gives_back_slowly_what_is_not_needed_but_not_up_to_where_it_was_lost():
    training = Training(rows=(row(0.0, 0.0, 0.0),))
    training.sees(row(0.0, 0.0, 0.0))
    given = [training.sees(row(10.0)) for _ in range(20)]
    assert given[0] == pytest.approx(0.275) and given[1] == pytest.approx(0.3025)
    assert max(given) == 0.5, "half of the beta at which the latents were lost"


def test_what_was_given_back_too_far_is_not_given_back_again():
    training = Training(rows=(row(0.0, 0.0, 0.0),))
    training.sees(row(0.0, 0.0, 0.0))
    for _ in range(3):
        training.sees(row(10.0))
    lost_at = training.module.beta
    training.sees(row(0.1, 0.0, 0.0))
    assert training.module.beta == pytest.approx(lost_at / 2)
    assert max(training.sees(row(10.0)) for _ in range(30)) < lost_at


def test_what_was_there_is_what_there_was_before_the_onset():
    """A partial collapse still looks well by itself."""
    rows = tuple(
        row(value, active) | {"step": step} for step, value, active in ((100, 8.0, 1.0), (200, 5.0, 0.5), (300, 5.0, 0.5))
    )
    training = Training(rows=rows, waiting=False)
    training.cut.began = None
    training.cut.start(training.trainer, training.module, Verdict("partial_dimensions", "alarm", "", "", began=200))
    assert (training.cut.aim.active_ratio, training.cut.aim.information) == (0.75, 6.0)


def test_from_the_start_it_waits_for_the_first_tenth_of_training():
    training = Training(waiting=False, step=0)
    assert [training.sees(row(0.0, 0.0, 0.0)) for _ in range(9)] == [1.0] * 9
    assert training.sees(row(0.0, 0.0, 0.0)) == 0.5
    assert training.cut.aim.dims == 8, "known since the first evaluation"
    alive = Training(waiting=False, step=0)
    alive.sees(row(5.0))
    assert alive.sees(row(0.0, 0.0, 0.0)) == 0.5, "what was alive and is lost needs no waiting"


@settings(max_examples=50)
@given(st.lists(st.tuples(FIGURES, FIGURES, FIGURES), max_size=120), st.floats(1e-6, 1e6))
def test_cut_stays_in_bounds_and_tells_little_for_any_course(course, beta):
    training = Training(beta=beta, rows=(row(0.0, 0.0, 0.0),))
    for information, active, residual in course:
        now = training.sees(row(information, active, residual_eigenvalue=residual))
        assert BETA_FLOOR * beta <= now <= beta
    assert len(training.recorder.events) <= MOST_EVENTS


class TestAim:
    def test_without_a_healthy_evaluation_half_of_the_units_with_a_nat_each(self):
        aim = Aim.of([row(0.0, 0.0, 0.0)], 1.0)
        assert (aim.active_ratio, aim.information, aim.target, aim.dims) == (0.5, 4.0, 4.0, 8)
        assert Aim.of([], 1.0).information == 0.5
        large = Aim.of([row(0.0, 0.0, 0.0) | {"latent_dims": 256}], 1.0)
        assert (large.information, large.target) == (4.0, 4.0), "how much more there is depends on the data"

    def test_three_quarters_of_what_there_was(self):
        rows = [row(20.0, 1.0), row(10.0, 0.8), row(0.0, 0.0, 0.0)]
        assert Aim.of(rows, 1.0) == Aim(pytest.approx(0.6), 7.5, 0.2, 8, target=10.0)

    def test_a_lost_level_is_to_carry_half_a_nat_for_each_unit(self):
        levels = {"mi_gauss_level_1": 0.0, "mi_gauss_level_2": 8.0}
        assert Aim.of([row(8.0, **levels)], 1.0, "partial_level").level_information == 2.0
        healthy = row(8.0, mi_gauss_level_1=4.0, mi_gauss_level_2=4.0)
        assert Aim.of([healthy, row(8.0, **levels)], 1.0, "partial_level").level_information == 3.0
        assert Aim.of([row(8.0, **levels)], 1.0, "collapse").level_information == 0.2

    def test_evaluations_without_figures_say_nothing(self):
        assert Aim.of([row(10.0), {"patients": 3, "latent_dims": 8}], 1.0).information == 7.5
        assert Aim.of([{"patients": 3, "latent_dims": 8}], 1.0).information == 4.0

    def test_what_was_there_at_next_to_no_beta_does_not_count(self):
        assert Aim.of([row(50.0) | {"beta": 0.1}], 1.0).information == 4.0

    @pytest.mark.parametrize(
        ("evaluation", "met"),
        [
            (row(5.0), True),
            (row(1.0), False),
            (row(5.0, 0.2), False),
            (row(5.0, reliance=0.01), False),
            (row(5.0, mi_gauss_level_1=4.9, mi_gauss_level_2=0.01), False),
            (row(5.0, mi_gauss_level_1=2.5, mi_gauss_level_2=2.5), True),
            ({"patients": 3}, True),
        ],
    )
    def test_met(self, evaluation, met):
        assert Aim.of([row(0.0, 0.0, 0.0)], 1.0).met(evaluation) is met
