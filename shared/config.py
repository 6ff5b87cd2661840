"""Every option of a training run. The command line, config files, run.json and the dashboard's forms come from here.

Names are unique over all groups, so that the command line is flat (`--batch_size`, or `--batch-size`) and a config file
may be flat or grouped. Names that the older trainer had are kept.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from shared.remedies import action_named, remedy_named, remedy_of


class Group(BaseModel):
    """A group of options; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)


class DataConfig(Group):
    """What is trained on, and how it is loaded"""

    data_dir: str = Field(default="prepared/demo", description="prepared data set, or a folder in the older patient_ehr layout")
    params_map_path: str | None = Field(default=None, description="older layout: stats.csv (default: beside patient_ehr)")
    label_path: str | None = Field(default=None, description="older layout: oc.csv (default: beside patient_ehr)")
    label: str = Field(default="in_hospital_mortality", description="outcome column to predict")
    batch_size: int = Field(default=4, ge=1, description="stays per batch")
    batch_events: int | None = Field(
        default=None,
        ge=1,
        description="in place of batch_size: most measurements per batch, of stays of like length, so that little is padded and "
        "every step costs the same; a batch counts by its share of the epoch's sets ('none': batch_size stays)",
    )
    max_sequence_length: int | None = Field(default=1000, ge=1, description="most recent sets kept per stay ('none': all)")
    num_workers: int | None = Field(default=None, ge=0, description="loader processes ('none': 8, at most cores - 1; 0 on CPU)")
    pin_memory: bool | None = Field(default=None, description="page-locked batches, with a GPU only ('none': on)")
    persistent_workers: bool = Field(default=True, description="keep loader processes between epochs")
    use_dynamic_padding: bool = Field(
        default=True, description="pad to the longest stay of the batch, not to max_sequence_length"
    )


class ModelConfig(Group):
    """The network"""

    latent_dim: int = Field(default=128, ge=1, description="latent dimensions per level")
    levels: int = Field(default=2, ge=1, le=4, description="levels of latents, each conditioned on those above")
    width: int = Field(default=128, ge=8, description="width of the set encoder, transformer and decoder")
    embedding_dim: int | None = Field(
        default=None, ge=1, description="size of variable embeddings ('none': width, or cached.csv's)"
    )
    set_attention: Literal["full", "induced"] = Field(
        default="full", description="attention inside a set: all pairs, or induced"
    )
    inducing_points: int = Field(default=16, ge=1, description="inducing points of induced set attention (m)")
    induce_small_sets: bool = Field(
        default=False,
        description="with induced attention: sets of no more events than inducing points go through the points too, which costs more "
        "(as in runs before December 2026); off: their events attend to each other",
    )
    set_heads: int = Field(default=2, ge=1, description="attention heads inside a set")
    transformer_layers: int = Field(default=2, ge=1, description="layers of the causal transformer over sets")
    transformer_heads: int = Field(default=4, ge=1, description="attention heads of the transformer")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="dropout in the transformer and the classifier")
    decoder: Literal["likelihood", "chamfer"] = Field(default="likelihood", description="set decoder and its loss")
    decoder_input: Literal["state", "latent"] = Field(
        default="state", description="what is decoded: the causal state over sampled latents, or the set's own latent alone"
    )
    classifier_measurements: bool | None = Field(
        default=None,
        description="classifier also reads the measurements: last value of each variable, and its summary over the stay "
        "('none': on up to 256 variables)",
    )

    @field_validator("set_heads", "transformer_heads")
    @classmethod
    def _heads_share_the_width(cls, heads: int, info: ValidationInfo) -> int:
        width = info.data.get("width")
        if width is not None and width % heads:
            raise ValueError(f"has to divide model.width, which is {width}")
        return heads


class LossConfig(Group):
    """The objective"""

    beta_schedule: Literal["linear", "constant", "cyclical"] = Field(default="linear", description="how beta moves")
    beta_max: float = Field(default=0.1, ge=0, description="largest weight of the KL term")
    beta_warmup_steps: int = Field(default=5000, ge=0, description="steps from 0 to beta_max (linear), or per cycle (cyclical)")
    beta_cycle_ramp: float = Field(default=0.5, gt=0, le=1, description="share of a cycle that rises (cyclical)")
    free_bits: float = Field(default=0.1, ge=0, description="KL floor in nats; the unclamped KL is always logged")
    free_bits_mode: Literal["dimension", "set"] = Field(default="dimension", description="floor per dimension, or per set")
    chamfer_weights: tuple[float, float, float] = Field(
        default=(1.0, 1.0, 1.0), description="direction, magnitude and full term of the Chamfer loss"
    )
    recon_weight: float = Field(default=1.0, ge=0, description="weight of reconstruction (and of KL with it)")
    prediction_weight: float = Field(default=1.0, ge=0, description="weight of the outcome loss")
    loss_weighting: Literal["fixed", "dynamic"] = Field(
        default="fixed", description="dynamic: weights learned from task uncertainty (Kendall et al. 2018)"
    )
    prediction_loss: Literal["cross_entropy", "focal"] = Field(default="cross_entropy", description="outcome loss")
    focal_gamma: float = Field(default=2.0, ge=0, description="focusing of the focal loss")
    positive_weight: Literal["none", "balanced"] = Field(
        default="none", description="weight positives by negatives / positives"
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5, description="label smoothing (the older trainer used 0.1)")


class OptimConfig(Group):
    """The optimizer"""

    learning_rate: float = Field(default=3e-4, gt=0, description="peak learning rate of AdamW")
    weight_decay: float = Field(default=0.01, ge=0, description="decoupled weight decay of matrices")
    lr_schedule: Literal["constant", "cosine"] = Field(default="cosine", description="after warm-up: hold, or decay to 1 %")
    lr_warmup_steps: int = Field(default=200, ge=0, description="steps of linear warm-up")
    gradient_clip_val: float = Field(default=0.5, ge=0, description="largest gradient norm (0: no clipping)")
    gradient_accumulation_steps: int = Field(default=2, ge=1, description="batches per optimizer step")


class TrainerConfig(Group):
    """Stages, devices and the length of training"""

    stage: Literal["pretrain", "train", "finetune"] = Field(
        default="train", description="pretrain: sets only; train: all; finetune: classifier on frozen features"
    )
    init_from: str | None = Field(default=None, description="checkpoint whose weights to start from")
    freeze_ratio: float = Field(
        default=0.0, ge=0, le=1, description="share of the set encoder's blocks frozen, input side first"
    )
    max_epochs: int = Field(default=50, ge=1, description="epochs")
    max_steps: int | None = Field(default=None, ge=1, description="stop after this many optimizer steps")
    accelerator: Literal["auto", "cpu", "gpu"] = Field(default="auto", description="device kind")
    devices: int = Field(default=1, ge=1, description="processes per machine, one per GPU or sharing a CPU; batch_size of each")
    num_nodes: int = Field(default=1, ge=1, description="machines, each with so many devices; torchrun or SLURM starts them")
    strategy: Literal["ddp", "fsdp"] = Field(
        default="ddp",
        description="with several processes: ddp, a copy of the model on each; fsdp, a part of its weights, gradients and optimizer "
        "state on each, about half as fast, for widths whose copies do not fit on a GPU (default sizes and CPUs gain nothing; tried on "
        "CPUs only so far; no 16-mixed, no checkpoint at an error)",
    )
    precision: Literal["auto", "32", "bf16-mixed", "16-mixed"] = Field(
        default="auto", description="auto: bf16-mixed where the GPU has it, else 16-mixed; 32 on a CPU"
    )
    compile_model: bool = Field(
        default=False, description="torch.compile the row-wise blocks: for GPUs; half a minute at first, and on a CPU no gain"
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="blocks run again in the backward pass and keep nothing till then: for long stays on a small GPU",
    )
    val_check_interval: float = Field(default=0.1, gt=0, le=1, description="validate every this share of an epoch")
    limit_val_batches: float = Field(default=0.1, gt=0, le=1, description="share of validation stays used while training")
    early_stopping_patience: int = Field(
        default=0, ge=0, description="validations without a better AUROC before stopping (0: off)"
    )
    checkpoint_every_n_steps: int = Field(default=500, ge=1, description="steps between writes of last.ckpt")
    seed: int = Field(default=0, ge=0, description="seed of weights, order and noise")
    cpu_threads: int | None = Field(default=None, ge=1, description="threads of the CPU backend ('none': all cores but one)")
    resume_from_checkpoint: str | None = Field(
        default=None,
        description="checkpoint or run folder to go on from; batch size and learning rate may change (with another batch size "
        "it goes on at the next whole batch: up to one batch of stays is left out of that epoch)",
    )


class MonitorConfig(Group):
    """Watching the posterior"""

    disable_metrics_monitoring: bool = Field(default=False, description="no posterior metrics at all")
    fast_detection: bool = Field(default=False, description="probe every 100 steps, plot every 1,000 (standard: 200, 2,000)")
    update_frequency: int | None = Field(
        default=None,
        ge=1,
        description="steps between probe evaluations ('none': 200, with fast_detection 100; fewer in a short run, for 20)",
    )
    plot_frequency: int | None = Field(default=None, ge=1, description="steps between four-panel pictures")
    window_size: int = Field(default=50, ge=2, description="steps over which batch statistics are pooled")
    probe_patients: int = Field(default=256, ge=2, description="validation stays in the fixed probe set")
    probe_time_budget: float = Field(
        default=0.02, gt=0, le=1, description="largest share of training time spent on probes; a run has 10 s in any case"
    )
    sensitivity: Literal["early", "balanced", "strict"] = Field(
        default="balanced", description="verdicts sooner, or on more evidence"
    )
    on_collapse: str = Field(
        default="warn",
        description="at an alarm of collapse: warn, stop (exit status 3), checkpoint (collapse_*.ckpt), or remedy:NAME",
    )
    remedy: str | None = Field(
        default=None,
        description="remedy applied from the start: beta_cut, pi_control, cyclical_beta, free_bits, aggressive_encoder or "
        "learned_variance",
    )

    kl_target: float | None = Field(
        default=None, gt=0, description="nats per set that pi_control steers to ('none': what latents carried before)"
    )

    @field_validator("remedy")
    @classmethod
    def _remedy_exists(cls, remedy: str | None) -> str | None:
        return remedy if remedy is None else remedy_named(remedy)

    @field_validator("on_collapse")
    @classmethod
    def _action_exists(cls, action: str) -> str:
        return action_named(action)

    @model_validator(mode="after")
    def _one_remedy(self) -> Self:
        if self.remedy is not None and remedy_of(self.on_collapse) is not None:
            raise ValueError(
                f"on_collapse: {self.remedy} is applied already, and two would pull at the same beta; warn or stop"
            )
        return self


class OutputConfig(Group):
    """Where the run goes"""

    output_dir: str = Field(default="runs", description="folder that holds all runs")
    run_name: str | None = Field(
        default=None, description="name of the run (default: data set and stage); a timestamp is added"
    )
    log_dir: str | None = Field(default=None, description="where the monitor's pictures go (default: plots/ in the run)")
    verbose: bool = Field(default=False, description="also print every probe evaluation")


class TrainConfig(Group):
    """All options of `python -m backend train`."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    trainer: TrainerConfig = TrainerConfig()
    monitor: MonitorConfig = MonitorConfig()
    output: OutputConfig = OutputConfig()


FIXED_ON_RESUME = ("trainer.stage", "trainer.freeze_ratio", "trainer.seed", "loss.loss_weighting", "data.label")
"""Besides all of `model`: options that a checkpoint cannot follow, so a resumed run keeps them."""
