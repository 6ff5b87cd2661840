"""From `--data_dir` to a prepared data set, whatever layout it names."""

from pathlib import Path

from backend.store import PreparedDataset
from shared.config import TrainConfig
from shared.dataset import DATASET_JSON
from shared.errors import InputError


def open_data(config: TrainConfig) -> PreparedDataset:
    """Open a prepared folder; a folder in the older patient_ehr layout is prepared first, once, under output_dir/.prepared.

    Raises:
        InputError: neither layout, or without training stays; the message says how to make one.
    """
    source = Path(config.data.data_dir)
    if (source / DATASET_JSON).exists():
        data = PreparedDataset.open(source)
    elif (source / "patient_ehr").is_dir() or (source / "train").is_dir():
        data = PreparedDataset.open(_prepare_older_layout(source, config))
    else:
        raise InputError(
            f"{source}: not a prepared data set (no {DATASET_JSON}) and not in the patient_ehr layout. Make one with "
            "`python -m backend prepare physionet2012 SRC OUT`, or try `python -m backend prepare simulate prepared/demo`"
        )
    for split in ("train", "valid"):
        if not len(data.split_indices(split)):
            raise InputError(f"{source}: the {split!r} split holds no stays; prepare it again with other split shares")
    return data


def _prepare_older_layout(source: Path, config: TrainConfig) -> Path:
    from backend.patient_ehr import PatientEhr
    from backend.prepare import prepare

    out = Path(config.output.output_dir) / ".prepared" / source.absolute().name
    if not (out / DATASET_JSON).exists():
        print(f"{source} is in the older layout: preparing it once, into {out}", flush=True)
        stats, labels = (Path(p) if p else None for p in (config.data.params_map_path, config.data.label_path))
        prepare(PatientEhr(source, params_map_path=stats, label_path=labels), out, valid=0.0, test=0.0)
    return out
