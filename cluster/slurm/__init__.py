"""Sweeps on SLURM: planned, submitted, watched, taken up again and gathered, all from one sweep directory."""
