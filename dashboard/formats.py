"""Numbers, times and durations as people read them."""

import math
from collections.abc import Sequence
from datetime import datetime

from shared.schema import now

DASH = "–"


def number(value: float | None, digits: int = 4) -> str:
    """Four significant digits, thousands separated; a dash for what is not there."""
    if value is None:
        return DASH
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    if value == 0 or abs(value) >= 10 ** (digits - 1):
        shown = f"{value:,.0f}"
    else:
        shown = f"{value:.{digits - 2}e}" if abs(value) < 1e-4 else f"{value:.{digits}g}"
    return shown.replace("-", "−")


def count(value: float | None) -> str:
    """A whole number, thousands separated."""
    return DASH if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """The two largest units, as in `2 h 05 min`."""
    if seconds is None or not math.isfinite(seconds):
        return DASH
    whole = round(max(seconds, 0))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02d} h"


def size(nbytes: float | None) -> str:
    """Bytes in powers of 1,000, as disks are sold: `1.2 GB`."""
    if nbytes is None:
        return DASH
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 999.5:
            return f"{number(nbytes, 3)} {unit}"
        nbytes /= 1000
    return f"{number(nbytes, 3)} TB"


def rate(per_second: float | None) -> str:
    """Steps per second, or seconds per step where that is easier to grasp."""
    if not per_second or not math.isfinite(per_second):
        return DASH
    return f"{number(per_second, 3)} steps/s" if per_second >= 1 else f"{number(1 / per_second, 3)} s/step"


def moment(at: datetime | None) -> str:
    """Day and time in UTC; the year only if it is another one."""
    if at is None:
        return DASH
    return at.strftime("%-d %b %H:%M" if at.year == now().year else "%-d %b %Y")


def ranges(numbers: Sequence[int]) -> str:
    """Whole numbers in ascending order, runs of them joined: `0-3, 7`."""
    parts: list[list[int]] = []
    for value in sorted(numbers):
        if parts and parts[-1][1] == value - 1:
            parts[-1][1] = value
        else:
            parts.append([value, value])
    return ", ".join(f"{first}-{last}" if first < last else f"{first}" for first, last in parts)
