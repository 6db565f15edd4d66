"""Manifests for Kubernetes: templates, one file of values, and the command that fills them in.

May import what `cluster` may.
"""
