"""In-hospital mortality on PhysioNet 2012: AUROC and AUPRC on held-out stays, through the product's own commands.

    python -m tests.benchmarks physionet_mortality

For each seed: split a + b anew (80 % to train, 20 % held out), train once with the fixed options below, score the last
weights on the held-out stays. Nothing is chosen on them: no early stopping, no best checkpoint. The options were chosen on
a part of the training stays of seed 0. Each training has a limit of five minutes on two cores; it takes one thread, and
two run side by side: at this width a second thread waits more than it works.
"""

import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean

from shared.layout import iter_runs
from shared.reader import JsonlTail
from tests.benchmarks.harness import parser_of, report
from tests.benchmarks.train_throughput import RAW

OPTIONS = {
    "width": 64, "latent_dim": 32, "levels": 1, "dropout": 0.3, "prediction_weight": 20,
    "batch_size": 32, "gradient_accumulation_steps": 1, "learning_rate": 1e-3, "lr_warmup_steps": 100,
    "weight_decay": 0.1, "gradient_clip_val": 1.0, "beta_warmup_steps": 500, "max_epochs": 5, "val_check_interval": 1.0,
    "cpu_threads": 1,
}  # fmt: skip


def main(argv: list[str]) -> None:
    """Train and score every seed, then report means."""
    parser = parser_of("physionet_mortality", __doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--side-by-side", type=int, default=2, help="trainings at a time")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.side_by_side) as pool:
        rows = list(pool.map(lambda seed: one_seed(seed, Path(folder)), options.seeds))
    figures = {name: mean(row[name] for row in rows) for name in ("auroc", "auprc")}
    report(
        "physionet_mortality",
        [dict(row) for row in rows],
        {**figures, "longest_s": max(row["train_s"] for row in rows), "seeds": len(rows)},
    )


def one_seed(seed: int, folder: Path) -> dict[str, float]:
    """Prepare, train and score one split."""
    data, runs = folder / f"data-{seed}", folder / f"runs-{seed}"
    backend("prepare", "physionet2012", str(RAW), str(data), "--valid", "0.2", "--test", "0", "--seed", str(seed))
    words = [f"--{name}={value}" for name, value in OPTIONS.items() if value is not True]
    words += [f"--{name}" for name, value in OPTIONS.items() if value is True]
    started = time.perf_counter()
    backend("train", "--data_dir", str(data), "--output_dir", str(runs), "--seed", str(seed), *words)
    taken = time.perf_counter() - started
    (layout,) = iter_runs(runs)
    scores = next(row for row in JsonlTail(layout.evaluations).read() if row.get("full"))
    return {"seed": seed, "auroc": scores["auroc"], "auprc": scores["auprc"], "train_s": taken, "held_out": scores["labelled"]}


def backend(*words: str) -> None:
    """One command of the product; its output goes to stderr, so that stdout ends with the report."""
    subprocess.run([sys.executable, "-m", "backend", *words], check=True, stdout=sys.stderr)
