"""The papers' tables: which runs make them at which scale, and pages that set measured beside published figures.

May import recipes, results, config and the root modules. A new paper is one more `Table` in tables.py.
"""
