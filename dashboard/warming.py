"""What takes long once a process, done on a thread while the first browser still loads its scripts."""

import numpy as np

from dashboard.components import compressed_plotly


def warm() -> None:
    """Compress plotly.js, load Plotly, and draw a chart that nobody sees: the first costs a quarter of a second more than others."""
    compressed_plotly()
    from dashboard.charts import Curve, Guide, Mark, draw

    x = np.arange(3.0)
    draw([Curve("", x, x, "training")], guides=[Guide("", 1.0, 2.0)], marks=[Mark("m", 1.0)]).to_json(validate=False)
