"""What the CIFAR-10 recipes share."""

from __future__ import annotations

#: OAT's, FLOAT's and SMART's setting: PGD-7 in training, SGD with a cosine from 0.1, batch 128.
CIFAR10 = {
    "data": "cifar10",
    "attack.epsilon": "8/255",
    "attack.step_size": 10 / 255 / 7,
    "attack.num_steps": 7,
    "eval.attack.num_steps": 20,
    "eval.attack.step_size": "2/255",
    "optim.lr": 0.1,
    "batch_size": 128,
}

#: The setting of Sparsity Winning Twice, and of most published PGD-AT: PGD-10, a drop of the rate at 1/2 and 3/4.
CIFAR10_PGD10 = {
    **CIFAR10,
    "attack.step_size": "2/255",
    "attack.num_steps": 10,
    "optim.schedule": "multistep",
}

#: A budget for two CPU cores.
TEN_EPOCHS = {
    "model": "resnet20",
    "epochs": 10,
    "eval.every": 5,
    "eval.val_examples": 1000,
    "optim.schedule": "onecycle",
    "optim.lr": 0.2,
    "optim.warmup": 0.3,
}
