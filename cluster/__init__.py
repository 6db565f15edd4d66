"""Getting runs onto clusters: Ray jobs, SLURM, Kubernetes. Used from a checkout; the installed package needs none of it."""
