"""Reporting: results as figures, HTML pages and terminal text. Imports matplotlib and plotly on first use.

May import results, config and root modules; no torch.
"""
