"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

# Found examples repeat from run to run, and a busy machine is no failure.
settings.register_profile("steady", derandomize=True, deadline=None, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


def _real_data(name: str) -> Path:
    folder = REAL_DATA / name
    if not folder.is_dir():
        pytest.skip(f"needs real data in ../shared/data/{name} beside the checkout")
    return folder


@pytest.fixture(scope="session")
def physionet_dir() -> Path:
    """PhysioNet 2012 as the challenge publishes it: set-a and set-b archives with their outcomes."""
    return _real_data("physionet2012")


@pytest.fixture(scope="session")
def mimic_dir() -> Path:
    """The MIMIC-IV demo in the older patient_ehr layout."""
    return _real_data("mimic_iv_demo")
