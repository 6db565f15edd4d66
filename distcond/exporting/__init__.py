"""Exports of one operating point as a plain network: safetensors folder with model card, `.pt2`, ONNX.

May import runs, models, results and below; not training, evaluation or launch.
"""
