"""Getting runs onto clusters: Ray jobs, SLURM, Kubernetes. For checkouts; the installed package does without."""
