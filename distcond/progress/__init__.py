"""Live progress of a run on standard error, read from the files it writes: the same under every launcher.

May import runs, results and lower; never launch.
"""
