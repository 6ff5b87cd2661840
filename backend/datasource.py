"""From `--data_dir` to a prepared data set, whatever layout it names."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from backend.store import PreparedDataset
from shared.config import TrainConfig
from shared.dataset import DATASET_JSON
from shared.errors import InputError

NEEDED_TO_TRAIN = ("train", "valid")


def open_data(config: TrainConfig, needed: tuple[str, ...] = NEEDED_TO_TRAIN) -> PreparedDataset:
    """Open a prepared folder; a folder in the older patient_ehr layout is prepared first, once, under output_dir/.prepared.

    Raises:
        InputError: neither layout, or without stays in a `needed` split; the message says how to make one.
    """
    source = Path(config.data.data_dir)
    if (source / DATASET_JSON).exists():
        data = PreparedDataset.open(source)
    elif (source / "patient_ehr").is_dir() or (source / "train").is_dir():
        data = PreparedDataset.open(_prepare_older_layout(source, config))
    else:
        below = sorted(str(path.parent) for path in source.glob(f"*/{DATASET_JSON}"))
        if below:
            raise InputError(f"{source}: holds prepared data sets and is none itself; name one of them: {', '.join(below[:5])}")
        raise InputError(
            f"{source}: not a prepared data set (no {DATASET_JSON}) and not in the patient_ehr layout. Make one with "
            "`python -m backend prepare physionet2012 SRC OUT`, or try `python -m backend prepare simulate prepared/demo`"
        )
    for split in needed:
        if not len(data.split_indices(split)):
            raise InputError(f"{source}: the {split!r} split holds no stays; prepare it again with other split shares")
    return data


def _prepare_older_layout(source: Path, config: TrainConfig) -> Path:
    """The prepared form of a source as it is now; when two processes make it at once, the slower takes the faster's."""
    from backend.patient_ehr import PatientEhr
    from backend.prepare import prepare

    stats, labels = (Path(p) if p else None for p in (config.data.params_map_path, config.data.label_path))
    name = f"{source.resolve().name}-{_state_of(source, stats, labels)[:12]}"
    out = Path(config.output.output_dir) / ".prepared" / name
    if not (out / DATASET_JSON).exists():
        print(f"{source} is in the older layout: preparing it once, into {out}", flush=True)
        try:
            prepare(PatientEhr(source, params_map_path=stats, label_path=labels), out, valid=0.0, test=0.0)
        except InputError:
            if not (out / DATASET_JSON).exists():
                raise
    return out


def _state_of(source: Path, stats: Path | None, labels: Path | None) -> str:
    """A hash of where the source and its tables lie, and of size and time of each file: other data, another name."""
    digest = hashlib.sha256(f"{source.resolve()}\n".encode())
    for path in _files_of(source, stats, labels):
        if path.exists():
            status = path.stat()
            digest.update(f"{path.resolve()}\t{status.st_size}\t{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _files_of(source: Path, stats: Path | None, labels: Path | None) -> Iterator[Path]:
    ehr = source if (source / "train").is_dir() else source / "patient_ehr"
    beside = ehr.resolve().parent
    yield stats or beside / "stats.csv"
    yield labels or beside / "oc.csv"
    yield beside / "cached.csv"
    yield from sorted(ehr.glob("*/*.parquet"))
