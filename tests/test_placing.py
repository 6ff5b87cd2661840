"""Words of guides and marks stand where no curve runs."""

import numpy as np
import pytest

from dashboard import charts
from shared.drawing import Curve, Guide, Mark
from shared.placing import guide_corner, mark_words
from tests.plotted import plotted

X = np.arange(0, 101.0)


def curve(y: np.ndarray) -> Curve:
    return Curve("training", X, y, "training")


@pytest.mark.parametrize(
    ("y", "corner"),
    [
        (np.exp(-X / 20) * 20 + 20 + np.sin(2 * X), (False, True)),  # falls to the guide: free at its left
        (20 + X / 5, (True, True)),  # rises away from it
        (np.full(101, 20.6), (True, False)),  # runs right above it all the way
    ],
)
def test_the_label_of_a_guide_is_where_no_curve_is(y: np.ndarray, corner: tuple[bool, bool]) -> None:
    assert guide_corner(Guide("best 20.74", 20.1), [curve(y)], False, [0.0]) == corner


def test_on_a_logarithmic_axis_too() -> None:
    found = guide_corner(Guide("free bits allow 6.4", 6.4), [curve(6.4 * 10 ** (X / 50 - 1.9))], True, [])
    assert found == (False, True), "the curve comes up to it at the right"


def test_a_band_from_nought_does_not_stretch_a_logarithmic_axis() -> None:
    variance = curve(np.geomspace(1.0, 0.05, 101))
    band, line = Guide("", 0.0, 0.99, tone="good"), Guide("none active", 0.0)
    whole = plotted(charts.draw([variance], guides=[band, line], look=charts.Look(scale="log"))).layout
    (shape,) = whole.shapes
    assert (shape.y0, shape.y1) == pytest.approx((0.05, 0.99)), "1e-18 is nowhere in the data"
    assert plotted(charts.draw([variance], guides=[band])).layout.shapes[0].y0 == 0


def test_marks_that_would_stand_over_each_other_are_counted() -> None:
    marks = [Mark("Posterior collapse", 10), Mark("Stagnation", 12), Mark("Overfitting", 13), Mark("", 50), Mark("Late", 99)]
    words = mark_words(marks, 0, 100)
    assert [(one.label, one.mark.step, one.left) for one in words] == [("Posterior collapse +2", 10, False), ("Late", 99, True)]


def test_words_of_marks_lie_over_the_axes_and_level() -> None:
    drawn = plotted(charts.draw([curve(X), curve(2 * X)], marks=[Mark("Posterior collapse", 10)])).layout
    (note,) = drawn.annotations
    assert (note.y, note.yref, note.yanchor, note.textangle, note.bgcolor) == (1, "y domain", "bottom", None, None)
    assert drawn.legend.y > 1.05 and drawn.margin.t >= 54, "the legend makes room"
