"""Live progress of a run on standard error, read from the run's files, so that it is the same under every launcher.

May import training.progress, runs, results and lower; never launch.
"""
