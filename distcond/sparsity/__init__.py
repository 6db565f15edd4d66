"""Masks over weights: how many, which, when and how they change. Tensors and steps, no papers."""
