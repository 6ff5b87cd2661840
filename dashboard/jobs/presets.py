"""Ready-made options to start from, each with the reason for it and what it gives up. Figures are those of tests/benchmarks/RESULTS.md."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Values over the defaults."""

    key: str
    title: str
    why: str
    trades: str
    values: dict[str, Any]


PRESETS = {
    preset.key: preset
    for preset in (
        Preset(
            "recommended",
            "Recommended",
            "The options of the benchmark on PhysioNet 2012, where they reach a mean AUROC of 0.866 (three splits) in 5 epochs: one "
            "level of 32 latents, batches of 32 stays, strong regularisation, and the outcome loss weighted up.",
            "Made for stays of about two days and 40 variables. For richer records raise width, latent_dim and levels.",
            {
                "width": 64, "latent_dim": 32, "levels": 1, "dropout": 0.3, "prediction_weight": 20.0,
                "batch_size": 32, "gradient_accumulation_steps": 1, "learning_rate": 1e-3, "lr_warmup_steps": 100,
                "weight_decay": 0.1, "gradient_clip_val": 1.0, "beta_warmup_steps": 500, "max_epochs": 5, "val_check_interval": 1.0,
            },
        ),
        Preset(
            "quick",
            "Quick",
            "First curves in seconds and the whole run in minutes, also on two cores: a small model, few epochs, and the posterior "
            "looked at every 50 steps.",
            "Says whether data and options work, not how good the model can get; probes may take a tenth of the time.",
            {
                "width": 64, "latent_dim": 32, "levels": 1, "batch_size": 8, "gradient_accumulation_steps": 1, "learning_rate": 5e-4,
                "dropout": 0.3, "weight_decay": 0.1, "lr_warmup_steps": 50, "beta_warmup_steps": 400, "max_epochs": 3,
                "val_check_interval": 0.5, "fast_detection": True, "update_frequency": 50, "probe_patients": 64,
                "probe_time_budget": 0.1,
            },
        ),
        Preset(
            "memory",
            "Low memory",
            "One stay at a time, and eight of them to a step: as many per step as the defaults have. Blocks keep nothing for the "
            "backward pass but run again there (a third of the activations), and batches are loaded by one process without pinned memory.",
            "A stay takes three to four times as long as in batches of 16 (measured: 22 against 71 stays/s, and about a quarter more for what "
            "runs twice). The model and what it learns from are those of the defaults. Ask preflight for the memory it takes.",
            {
                "batch_size": 1, "gradient_accumulation_steps": 8, "gradient_checkpointing": True, "num_workers": 1, "pin_memory": False,
                "probe_patients": 64,
            },
        ),
        Preset(
            "debug",
            "Debug",
            "20 steps of a tiny model through every part of a run: probes, plots, checkpoints, a validation and the final "
            "scores. Full precision, no loader processes, and every evaluation printed.",
            "Learns nothing, and a verdict on so few steps means nothing.",
            {
                "width": 32, "latent_dim": 8, "levels": 1, "transformer_layers": 1, "max_steps": 20, "max_epochs": 1, "precision": "32",
                "num_workers": 0, "persistent_workers": False, "lr_warmup_steps": 5, "beta_warmup_steps": 10, "update_frequency": 5,
                "plot_frequency": 10, "probe_patients": 16, "probe_time_budget": 1.0, "checkpoint_every_n_steps": 10, "verbose": True,
                "run_name": "debug",
            },
        ),
        Preset(
            "speed",
            "Maximum speed",
            "The default model in batches of 32 without accumulation (measured on a CPU: 2.7 times the stays per second of batches of "
            "one), validated once per epoch, with half a percent of the time for probes.",
            "Verdicts and scores come later, and a kill loses up to 2,000 steps. Batches are four times as large as a step of the "
            "defaults, and the learning rate is twice theirs: compare with care. On a GPU try compile_model as well; on a CPU it gains "
            "nothing.",
            {
                "batch_size": 32, "gradient_accumulation_steps": 1, "learning_rate": 6e-4,
                "val_check_interval": 1.0, "probe_time_budget": 0.005, "checkpoint_every_n_steps": 2000,
            },
        ),
    )
}  # fmt: skip
