"""Sweeps on SLURM: planned, submitted, watched, retried and gathered, all from one sweep directory.

May import what `cluster` may; submitit only in `sbatch` and `task`.
"""
