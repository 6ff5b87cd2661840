"""What files of earlier versions mean today."""

from typing import Any


def of_earlier(saved: dict[str, Any]) -> dict[str, Any]:
    """A saved configuration, with what earlier versions did where they had no option yet."""
    return {**saved, "model": {"induce_small_sets": True, **saved["model"]}} if isinstance(saved.get("model"), dict) else saved
