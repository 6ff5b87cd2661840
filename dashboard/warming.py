"""What takes long once a process, done on a thread while the first browser still loads its scripts."""

import numpy as np

from dashboard.components import SMALL_PLOTLY, compressed


def warm() -> None:
    """Compress plotly.js, and draw a chart that nobody sees: the first costs a quarter of a second more than others."""
    compressed(SMALL_PLOTLY)
    from dashboard.charts import Curve, Guide, Mark, draw
    from dashboard.live import cards  # noqa: F401

    x = np.arange(3.0)
    draw([Curve("", x, x, "training")], guides=[Guide("", 1.0, 2.0)], marks=[Mark("m", 1.0)]).to_json(validate=False)
