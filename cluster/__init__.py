"""Submit runs to clusters (Ray jobs, SLURM, Kubernetes). Part of the checkout, not of the installed package.

May import distcond.api, config, runs and results, and the root modules errors, atomic_io, registry and run_layout.
"""
