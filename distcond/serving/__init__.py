"""Serve a run's network over HTTP: requests name a position on the dial or a policy, and are answered in batches.

May import exporting, results, data, runs and below; not training, evaluation or launch. FastAPI is imported here alone.
"""
