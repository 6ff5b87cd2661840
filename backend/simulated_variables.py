"""The variables of simulated stays: units, plausible limits, and how each answers to severity."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SimulatedVariable:
    """How one variable answers to severity (about standard normal over stays and hours)."""

    name: str
    unit: str
    low: float
    high: float
    middle: float
    """Median at severity 0."""
    effect: float
    """Shift per unit of severity, as a share of `middle` if `log`."""
    between: float
    """Standard deviation between patients, on the same scale as `effect`."""
    within: float
    """Standard deviation from one measurement to the next."""
    frequency: float
    """Probability to be in a set of its kind."""
    lab: bool = False
    log: bool = False
    digits: int = 0


V = SimulatedVariable
VARIABLES = (
    V("HR", "bpm", 20, 220, 86, 9, 11, 6, 0.95),
    V("SysBP", "mmHg", 40, 240, 121, -9, 13, 9, 0.85),
    V("DiasBP", "mmHg", 15, 140, 62, -5, 8, 6, 0.85),
    V("MAP", "mmHg", 25, 180, 81, -7, 9, 6, 0.80),
    V("RespRate", "breaths/min", 4, 60, 18, 2.4, 2.5, 2.5, 0.85),
    V("SpO2", "%", 60, 100, 97, -1.1, 1.0, 1.0, 0.85),
    V("Temp", "°C", 31, 42, 37.0, 0.15, 0.4, 0.3, 0.65, digits=1),
    V("GCS", "points", 3, 15, 12.8, -2.0, 1.5, 0.7, 0.65),
    V("Urine", "mL", 0, 2000, 90, -0.35, 0.4, 0.5, 0.75, log=True),
    V("FiO2", "fraction", 0.21, 1.0, 0.40, 0.16, 0.15, 0.08, 0.50, log=True, digits=2),
    V("Lactate", "mmol/L", 0.3, 25, 1.6, 0.38, 0.25, 0.15, 0.35, lab=True, log=True, digits=1),
    V("Creatinine", "mg/dL", 0.2, 15, 1.0, 0.22, 0.35, 0.06, 0.75, lab=True, log=True, digits=1),
    V("BUN", "mg/dL", 2, 180, 20, 0.22, 0.40, 0.06, 0.75, lab=True, log=True),
    V("WBC", "10^3/uL", 0.3, 80, 11, 0.12, 0.35, 0.12, 0.70, lab=True, log=True, digits=1),
    V("Platelets", "10^3/uL", 5, 900, 200, -0.18, 0.40, 0.08, 0.70, lab=True, log=True),
    V("Hct", "%", 12, 60, 31, -0.8, 4.0, 1.2, 0.80, lab=True, digits=1),
    V("Na", "mmol/L", 110, 175, 139, 0.3, 3.5, 1.2, 0.75, lab=True),
    V("K", "mmol/L", 1.8, 9, 4.1, 0.10, 0.35, 0.25, 0.80, lab=True, digits=1),
    V("Glucose", "mg/dL", 20, 800, 130, 0.09, 0.22, 0.15, 0.75, lab=True, log=True),
    V("HCO3", "mmol/L", 5, 50, 24, -1.5, 2.5, 1.0, 0.70, lab=True),
    V("pH", "", 6.7, 7.8, 7.38, -0.030, 0.03, 0.025, 0.40, lab=True, digits=2),
    V("Bilirubin", "mg/dL", 0.1, 50, 0.8, 0.25, 0.60, 0.08, 0.25, lab=True, log=True, digits=1),
)  # fmt: skip
DESCRIPTORS = {"Age": "years", "Gender": "1: male, 0: female", "Weight": "kg"}
UNITS = {**{variable.name: variable.unit for variable in VARIABLES}, **DESCRIPTORS}
