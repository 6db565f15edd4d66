"""Reporting: results as figures, HTML pages and terminal text; matplotlib and plotly are imported on first use.

May import results, config and root modules; no torch.
"""
