"""Recipes: named experiments as data, each with its settings, paper, cost and expected numbers.

May import config and registry only. A new recipe is a value in a module here.
"""
