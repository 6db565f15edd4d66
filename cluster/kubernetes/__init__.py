"""Manifests for Kubernetes: templates, one file of values, and `python -m cluster.kubernetes` that joins them."""
