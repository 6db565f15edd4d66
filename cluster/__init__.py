"""Submit runs to clusters: Ray jobs, SLURM, Kubernetes. For checkouts; the installed package does without.

May import the public api, config, runs and results of distcond, and nothing else of it.
"""
