"""Experiment trackers (`sinks=tensorboard,mlflow,wandb`): one file a tool, each imported only where it is asked for.

May import runs, results, config and lower; never launch.
"""
