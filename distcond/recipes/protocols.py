"""Settings that recipes share: the training protocols of the papers, and two small budgets."""

from __future__ import annotations

from typing import Any, NamedTuple

from distcond.recipes.recipe import Deviation

#: Of OAT, FLOAT and SMART: PGD-7 in training, SGD with a cosine schedule from 0.1, batch 128.
PGD7 = {
    "attack.epsilon": "8/255",
    "attack.step_size": 10 / 255 / 7,
    "attack.num_steps": 7,
    "eval.attack.num_steps": 20,
    "eval.attack.step_size": "2/255",
    "optim.lr": 0.1,
    "batch_size": 128,
}

#: The papers' code counts the last iterate of PGD. RA of the best iterate is the same or lower.
LAST_ITERATE = {"eval.attack_name": "pgd-last"}

#: The code of the once-for-all papers does not normalise pixels.
RAW_PIXELS = {"data.mean": (0.0, 0.0, 0.0), "data.std": (1.0, 1.0, 1.0)}

#: The authors train in float32, without an own choice of TF32.
FLOAT32 = {"precision.train": "float32"}

#: Of Sparsity Winning Twice, and of most published PGD-AT: PGD-10, rate drops at 1/2 and 3/4.
PGD10 = {
    **PGD7,
    "attack.step_size": "2/255",
    "attack.num_steps": 10,
    "optim.schedule": "multistep",
}

#: A budget for two CPU cores.
TEN_EPOCHS = {
    "data": "cifar10",
    "model": "resnet20",
    "epochs": 10,
    "eval.every": 5,
    "eval.val_examples": 1000,
    "optim.schedule": "onecycle",
    "optim.lr": 0.2,
    "optim.warmup": 0.3,
}

#: Real handwritten digits: no download, minutes on a laptop.
DIGITS = {
    "data": "digits",
    "model": "small_cnn",
    "epochs": 30,
    "batch_size": 64,
    "optim.lr": 0.1,
    "attack.epsilon": 0.25,
    "attack.step_size": 0.06,
    "attack.num_steps": 7,
    "eval.attack.epsilon": 0.25,
    "eval.attack.step_size": 0.025,
    "eval.attack.num_steps": 20,
    "eval.val_steps": 10,
    "eval.batch_size": 90,
    "eval.every": 5,
    "precision.train": "float32",
}


class Benchmark(NamedTuple):
    """A data set and the network that the once-for-all papers train on it."""

    data: str
    model: str
    title: str
    settings: dict[str, Any]
    open: tuple[Deviation, ...] = ()  # what the papers leave open for this data set, or do otherwise

    @property
    def suffix(self) -> str:
        """Suffix of a recipe's name."""
        return f"{self.data}_{self.model}"


#: Of OAT; the later papers use the same.
CIFAR10 = Benchmark("cifar10", "resnet34", "CIFAR-10 with ResNet-34", {})
SVHN = Benchmark(
    "svhn",
    "wrn16_8",
    "SVHN with WRN-16-8",
    {"optim.lr": 0.01, "model.dropout": 0.3},
    (
        Deviation("learning rate", "0.01 on SVHN", "unknown, their code leaves it to the user"),
        Deviation("test images", "all", "those of full batches"),
    ),
)
STL10 = Benchmark(
    "stl10",
    "wrn40_2",
    "STL-10 with WRN-40-2",
    {"model.dropout": 0.3},
    (Deviation("validation images", "held out of the training set", "the test set"),),
)
CIFAR100 = Benchmark(
    "cifar100",
    "resnet34",
    "CIFAR-100 with ResNet-34",
    {},
    (
        Deviation(
            "setting",
            "that of CIFAR-10, with CIFAR-100's random rotation",
            "unknown, only the network's name is public",
        ),
    ),
)
TINY_IMAGENET = Benchmark(
    "tiny_imagenet",
    "resnet34",
    "Tiny-ImageNet with ResNet-34",
    {},
    (
        Deviation(
            "setting", "that of CIFAR-10, with a 3x3 stem of stride 1", "unknown, only the network's name is public"
        ),
    ),
)


def paper_setting(benchmark: Benchmark) -> dict[str, Any]:
    """The once-for-all papers' training on a benchmark: 200 epochs, validated every 10."""
    named = {"data": benchmark.data, "model": benchmark.model}
    every = {"epochs": 200, "eval.every": 10}
    return {**PGD7, **LAST_ITERATE, **RAW_PIXELS, **FLOAT32, **named, **every, **benchmark.settings}
