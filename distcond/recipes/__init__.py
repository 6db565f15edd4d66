"""Named experiments: each recipe is a set of settings with its paper, cost and expected figures."""
