"""The one evaluator, of validation, final sweeps, `distcond.evaluate` and calibration: plan, blocks, outcomes, rows.

May import runs, distributed, gradient_masking, reporting, attacks, models and below; not training, launch or ray.
"""
