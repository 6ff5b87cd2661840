"""Prepare a data set once; training then maps it into memory.

    python -m backend prepare simulate prepared/demo --patients 2000
    python -m backend prepare physionet2012 ../shared/data/physionet2012 prepared/physionet2012
    python -m backend prepare patient_ehr ../shared/data/mimic_iv_demo prepared/mimic

The output folder appears only when it is whole. Its dataset.json says what was read, what was dropped, and why.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a command line that only prints its help loads no pandas
    from backend.preparing import Source
    from shared.dataset import DatasetInfo

# Without docstrings there is no description either (python -OO).
DESCRIPTION = __doc__ or ""
PHYSIONET_HELP = """Records of the PhysioNet/Computing in Cardiology Challenge 2012, as published: SRC holds set-*.tar.gz (or .zip, or
unpacked folders set-*/) and Outcomes-*.txt. The value -1 means "not recorded" and is dropped. Each record is one subject."""
PATIENT_EHR_HELP = """The older system's layout: SRC is patient_ehr/, or the folder that holds it, with
{train,valid,test}/<stay_id>.parquet (columns variable, value, minute, and optionally set_index). Beside patient_ehr/ lie oc.csv
(ts_id, then one column per outcome), stats.csv and optionally cached.csv (a variable, then its embedding). Its splits are kept."""
SIMULATE_HELP = """Simulated stays: a hidden severity drives vitals, labs, measurement times and death. The same seed gives the
same stays in a cohort of any size. Always labelled as simulated."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the kinds of input as subcommands; the parsed arguments get `run(args) -> int`."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    kinds = parser.add_subparsers(title="kinds of input", metavar="KIND", required=True)

    physionet = _kind(kinds, "physionet2012", PHYSIONET_HELP, "the PhysioNet 2012 challenge", _physionet2012)
    physionet.add_argument("src", metavar="SRC", type=Path, help="folder with set-*.tar.gz and Outcomes-*.txt")
    ehr = _kind(kinds, "patient_ehr", PATIENT_EHR_HELP, "the older system's parquet files", _patient_ehr)
    ehr.add_argument("src", metavar="SRC", type=Path, help="patient_ehr/, or the folder that holds it")
    for option, what in (("params_map_path", "stats.csv"), ("label_path", "oc.csv")):
        names = (f"--{option}", f"--{option.replace('_', '-')}")
        ehr.add_argument(*names, type=Path, metavar="FILE", help=f"{what} (default: beside patient_ehr/)")
    simulate = _kind(kinds, "simulate", SIMULATE_HELP, "a simulated cohort, no download", _simulation)
    simulate.add_argument("--patients", type=int, default=2000, metavar="N", help="stays to simulate (default: 2000)")

    for command in (physionet, ehr, simulate):
        command.add_argument("out", metavar="OUT", type=Path, help="folder to create")
        command.add_argument("--overwrite", action="store_true", help="replace OUT, once the new data set is whole")
    for command in (physionet, simulate):
        command.add_argument("--seed", type=int, default=0, help="decides the splits, and simulated stays (default: 0)")
        command.add_argument("--valid", type=float, default=0.15, metavar="F", help="share of subjects (default: 0.15)")
        command.add_argument("--test", type=float, default=0.15, metavar="F", help="share of subjects (default: 0.15)")
    ehr.set_defaults(seed=0, valid=0.0, test=0.0)


def main(args: argparse.Namespace) -> int:
    """Prepare what `args` name, with a progress bar and a closing summary; 0 when done.

    Raises:
        InputError: bad input or options.
    """
    prepare(args.source(args), args.out, seed=args.seed, valid=args.valid, test=args.test, overwrite=args.overwrite)
    return 0


def prepare(
    source: "Source", out: Path, *, seed: int = 0, valid: float = 0.15, test: float = 0.15, overwrite: bool = False
) -> "DatasetInfo":
    """Build the data set `out`, showing a progress bar and a closing summary.

    Raises:
        InputError: bad input or options.
    """
    from rich.console import Console

    from backend.folders import leftovers
    from backend.prepare_report import progress_on, summary_table
    from backend.preparing import build

    console = Console()
    with progress_on(console) as progress:
        info = build(source, out, seed=seed, valid=valid, test=test, overwrite=overwrite, progress=progress)
    console.print(summary_table(info))
    console.print(f"prepared {out} (fingerprint {info.fingerprint[:12]})", highlight=False, markup=False, soft_wrap=True)
    for left in leftovers(out):
        console.print(
            f"{left} is of another preparation: remove it unless that still runs", highlight=False, markup=False, soft_wrap=True
        )
    return info


def _kind(
    kinds: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    description: str,
    short: str,
    source: Callable[[argparse.Namespace], "Source"],
) -> argparse.ArgumentParser:
    parser = kinds.add_parser(name, help=short, description=description)
    parser.set_defaults(run=main, source=source)
    return parser


def _physionet2012(args: argparse.Namespace) -> "Source":
    from backend.physionet2012 import Physionet2012

    return Physionet2012(args.src)


def _patient_ehr(args: argparse.Namespace) -> "Source":
    from backend.patient_ehr import PatientEhr

    return PatientEhr(args.src, params_map_path=args.params_map_path, label_path=args.label_path)


def _simulation(args: argparse.Namespace) -> "Source":
    from backend.simulate import Simulation

    return Simulation(args.patients, args.seed)
