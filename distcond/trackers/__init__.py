"""Experiment trackers (`sinks=tensorboard,mlflow,wandb`): one file per tool, which is imported only if a run uses it.

May import runs, results, config and lower; never launch.
"""
