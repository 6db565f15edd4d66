"""Masks over weights: how many, which, when and how they change. Tensors and steps, no papers.

May import layers, seeding and errors; never launch, storage, runs, ray or pyarrow.
"""
