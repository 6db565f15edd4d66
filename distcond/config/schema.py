"""The frozen, typed settings of one run. What a run computes is a function of one `Config`.

`method`, `model` and `sampler` hold the options of the value they name, with the type of that value: a new method has
its own settings without a change here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from distcond.config.fields import group, setting


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of the options of a named value (a method, a model, a sampler)."""

    name: str = setting("", "name; see --list")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The images, and how they are loaded."""

    name: str = setting("digits", "data set; see --list")
    root: str = setting("", "path of the data set (not needed for digits)")
    loader: Literal["auto", "ffcv", "memory"] = setting(
        "auto", "auto = ffcv if installed, else memory (all images in memory)"
    )
    cache_dir: str = setting("~/.cache/distcond", "directory of converted images (.beton)")
    threads: int = setting(1, "reader threads per worker", ge=1)
    augment: bool = setting(True, "the data set's own random shifts and flips in training")
    image_size: int = setting(0, "side of the network's images in pixels; 0 = the data set's own", ge=0)
    stored_size: int = setting(0, "side of the stored images; 0 = image_size up to 128 pixels, else 8/7 of it", ge=0)
    num_classes: int = setting(0, "number of classes; 0 = the data set's own", ge=0)
    class_order: Literal["natural", "lexicographic"] = setting(
        "natural",
        "order of class folders: natural = 2 before 10; lexicographic = torchvision's, 10 before 2",
    )
    mean: tuple[float, ...] = setting((), "mean of red, green, blue in [0, 1]; empty = the data set's own")
    std: tuple[float, ...] = setting((), "standard deviation of red, green, blue; empty = the data set's own")
    cutmix: float = setting(0.0, "CutMix: areas are drawn from Beta(cutmix, cutmix), 1 = uniform; 0 = off", ge=0)
    extra: str = setting("", "more training images: an .npz with image (N, S, S, 3) uint8 and label (N,)")
    extra_share: float = setting(0.7, "share of data.extra in every batch", gt=0, lt=1)


@dataclass(frozen=True, kw_only=True)
class AttackConfig:
    """A projected-gradient attack in pixel units of [0, 1] (Madry et al. 2018)."""

    norm: Literal["Linf", "L2"] = setting("Linf", "norm of the threat model")
    epsilon: float = setting(
        8 / 255, "radius of the threat model, for pixels in [0, 1]; may be a fraction such as 8/255", ge=0
    )
    step_size: float = setting(2 / 255, "length of one step", ge=0)
    num_steps: int = setting(7, "gradient steps", ge=0)
    random_start: bool = setting(True, "start at a uniform random point within epsilon")
    restarts: int = setting(1, "random restarts; an example counts as robust if it survives all", ge=1)


#: `eval.attack_name` of runs and sweeps that were begun before there was a choice.
EARLIER_ATTACK_NAME = "pgd-last"


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Evaluation over a grid of operating points, in float32 but for validation (`precision.validation`)."""

    lam_grid: tuple[float, ...] = setting((0.0, 0.2, 0.7, 1.0), "values of lam to evaluate", ge=0, le=1)
    dial: Literal["switch", "weights", "outputs", "mixednuts", "folded"] = setting(
        "switch",
        "what the grid varies: lam over eval.lam_grid (switch), or over eval.dial_grid a blend of the network's two "
        "paths, of their weights or of their outputs; for two runs (distcond.pair) also mixednuts and folded weights",
    )
    dial_grid: tuple[float, ...] = setting(
        (0.0, 0.15, 0.3, 0.5, 0.7, 0.85, 1.0), "positions of the dial to evaluate, unless eval.dial=switch", ge=0, le=1
    )
    dial_lam: float = setting(
        1.0,
        "lam of a blend's robust end, the other is lam 0; 0 = the one that distcond.calibrate end=ra chose",
        ge=0,
        le=1,
    )
    dial_even: Literal["no", "ra", "sa"] = setting(
        "no", "use the map of the dial that distcond.calibrate even=ra or even=sa fitted; no = the dial is t itself"
    )
    attack: AttackConfig = group(AttackConfig(num_steps=20), "the attack behind RA")
    attack_name: Literal["pgd", "pgd-last"] = setting(
        "pgd", "which iterate of the attack counts: pgd the best one, pgd-last the last one, as in many papers"
    )
    every: int = setting(1, "epochs between validations; 0 = only at the end", ge=0)
    select: Literal["mean", "sa", "ra", "each"] = setting(
        "mean",
        "score of the best checkpoint on validation, over the grid: mean of SA and RA, sa or ra alone; each = as mean, "
        "and one more per operating point and metric",
    )
    val_examples: int = setting(0, "validation examples, of every class; 0 = all", ge=0)
    val_steps: int = setting(7, "attack steps in validation, which only selects the best checkpoint", ge=0)
    train_examples: int = setting(
        1000, "training images to measure the robust generalisation gap on; 0 = do not measure it", ge=0
    )
    test_examples: int = setting(0, "test examples of the final evaluation, of every class; 0 = all", ge=0)
    batch_size: int = setting(500, "examples per block; random starts do not depend on it", ge=1)
    noise_seed: int = setting(0, "seed of the weight noise in evaluation", ge=0)
    sentinel: Literal["off", "final", "every"] = setting(
        "every", "check for gradient masking: never, in the final evaluation, or in all (under 2 % of the time)"
    )


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """SGD and its learning-rate schedule."""

    lr: float = setting(0.1, "peak learning rate", gt=0)
    momentum: float = setting(0.9, "momentum", ge=0, le=1)
    nesterov: bool = setting(False, "Nesterov momentum")
    weight_decay: float = setting(5e-4, "L2 penalty", ge=0)
    no_decay: tuple[str, ...] = setting(("alpha",), "parameters without weight decay, by the suffix of their name")
    schedule: Literal["cosine", "multistep", "onecycle", "constant"] = setting("cosine", "learning rate over the run")
    milestones: tuple[float, ...] = setting(
        (0.5, 0.75), "multistep: when to drop the rate, as shares of the run", ge=0, le=1
    )
    drop_factor: float = setting(0.1, "multistep: factor of the rate at a milestone", gt=0, le=1)
    warmup: float = setting(0.0, "share of the run with a linear warm-up (onecycle: until the peak)", ge=0, le=1)
    averaging: float = setting(
        0.0, "decay per step of the averaged weights that are evaluated, such as 0.995; 0 = off", ge=0, lt=1
    )
    accumulate: int = setting(
        1, "shares of a worker's batch, computed one after the other as if by so many workers, for less memory", ge=1
    )
    awp_gamma: float = setting(
        0.0, "adversarial weight perturbation: its size relative to a layer's weights (authors: 0.01); 0 = off", ge=0
    )


@dataclass(frozen=True, kw_only=True)
class PrecisionConfig:
    """Number formats and memory layout of training and validation. Final numbers are always float32."""

    train: Literal["auto", "bf16", "float32"] = setting(
        "auto", "autocast; auto = bf16 where the device is fast at it; float32 = no TF32 either"
    )
    layout: Literal["auto", "channels_last", "contiguous"] = setting("auto", "memory layout of images and weights")
    fold_attack: bool = setting(
        True, "attack a copy with normalisation folded into the weights (same gradients, faster)"
    )
    compile: Literal["off", "attack"] = setting(
        "off", "compile the attack of training (torch.compile), on a GPU as a CUDA graph; minutes before the first step"
    )
    recompute: bool = setting(
        False,
        "recompute the activations of blocks in the backward pass: less memory, one more forward per training pass",
    )
    validation: Literal["float32", "tf32", "bf16"] = setting(
        "float32", "validation, which only selects the best checkpoint; its rows have it. tf32 = float32 without a GPU"
    )


@dataclass(frozen=True, kw_only=True)
class LaunchConfig:
    """Where the run is executed. It affects the result in two ways only: BN statistics are per worker, and CutMix mixes
    images of the same worker."""

    name: Literal["ray", "local"] = setting("ray", "ray = Ray Train; local = this process, or every torchrun process")
    workers: int = setting(0, "data-parallel workers; 0 = one per GPU, or two on a CPU with two cores", ge=0)
    min_workers: int = setting(
        0,
        "on a cluster: continue with this many workers if nodes are lost, and grow back; 0 = always launch.workers",
        ge=0,
    )
    cpus_per_worker: int = setting(1, "CPU cores per worker", ge=1)
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "auto = cuda if available")
    max_failures: int = setting(2, "times a failed worker group is restarted from the last checkpoint", ge=0)
    timeout: float = setting(600.0, "seconds after which an unresponsive worker is given up", gt=0)
    grace: float = setting(25.0, "seconds to save a checkpoint after SIGTERM or SIGUSR2 before the run is killed", gt=0)


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run."""

    recipe: str = setting("float_digits", "the recipe that the settings started from")
    method: Options = group(Options(), "training method; see --list")
    model: Options = group(Options(), "network; see --list")
    sampler: Options = group(Options(), "how lam is drawn in training; unset = the method's default")
    data: DataConfig = group(DataConfig(), "the images")
    attack: AttackConfig = group(AttackConfig(), "the attack of training")
    attack_mode: Literal["eval", "train"] = setting(
        "eval",
        "mode of the network under the attack of training: eval, or train, with statistics of the batch, which every "
        "attack step then updates (the code of Sparsity Winning Twice)",
    )
    eval: EvalConfig = group(EvalConfig(), "evaluation")
    optim: OptimConfig = group(OptimConfig(), "the optimiser")
    precision: PrecisionConfig = group(PrecisionConfig(), "number format and layout")
    launch: LaunchConfig = group(LaunchConfig(), "execution")
    epochs: int = setting(30, "passes over the training images; 0 = only evaluate the weights of init_from", ge=0)
    batch_size: int = setting(128, "images per step over all workers", ge=1)
    drop_last: bool = setting(True, "leave out the last batch of an epoch if it is smaller than batch_size")
    train_examples: int = setting(0, "training images to use, of every class, the same for every seed; 0 = all", ge=0)
    shared_statistics: bool = setting(False, "BN statistics over all workers instead of per worker")
    label_smoothing: float = setting(0.0, "label smoothing of the training loss, not of the attack", ge=0, lt=1)
    init_from: str = setting(
        "", "weights to start from: a run directory, one of its checkpoints, or a .pth or .safetensors; empty = random"
    )
    seed: int = setting(0, "random seed", ge=0)
    save_every: int = setting(1, "epochs between checkpoints", ge=1)
    save_steps: int = setting(0, "steps between checkpoints, besides those of save_every; 0 = none", ge=0)
    save_minutes: float = setting(
        15.0, "minutes between checkpoints, also within epochs and evaluations; 0 = none", ge=0
    )
    run_root: str = setting(
        "",
        "where run directories go, a path or a URI like s3://BUCKET/RUNS; empty = ./runs, or ~/distcond/runs in a job",
    )
    sinks: tuple[str, ...] = setting((), "experiment trackers: tensorboard, mlflow, wandb; see --list sink")
    fresh: bool = setting(False, "start a new run instead of resuming or showing the one with the same configuration")
