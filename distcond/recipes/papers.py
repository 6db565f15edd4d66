"""The papers whose experiments are recipes; `--list` groups by them."""

from __future__ import annotations

from distcond.recipes.recipe import Paper

MADRY = Paper(
    "madry", "Towards Deep Learning Models Resistant to Adversarial Attacks", arxiv="1706.06083", venue="ICLR 2018"
)
TRADES = Paper(
    "trades",
    "Theoretically Principled Trade-off between Robustness and Accuracy",
    arxiv="1901.08573",
    venue="ICML 2019",
)
AWP = Paper(
    "awp", "Adversarial Weight Perturbation Helps Robust Generalization", arxiv="2004.05884", venue="NeurIPS 2020"
)
OAT = Paper(
    "oat",
    "Once-for-All Adversarial Training: In-Situ Tradeoff between Robustness and Accuracy for Free",
    arxiv="2010.11828",
    venue="NeurIPS 2020",
)
SPARSITY_WINNING_TWICE = Paper(
    "sparsity_winning_twice",
    "Sparsity Winning Twice: Better Robust Generalization from More Efficient Training",
    arxiv="2202.09844",
    venue="ICLR 2022",
)
FLOAT = Paper(
    "float",
    "FLOAT: Fast Learnable Once-for-All Adversarial Training for Tunable Trade-off between Accuracy and Robustness",
    arxiv="2204.00426",
    venue="WACV 2023",
)
SMART = Paper(
    "smart",
    "Sparse Mixture Once-for-all Adversarial Training for Efficient In-Situ Trade-Off Between Accuracy and Robustness "
    "of DNNs",
    arxiv="2302.03523",
    venue="ICASSP 2023",
)
