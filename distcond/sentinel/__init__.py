"""Whether an attack's failure may be the attack's own fault: checks for masked gradients over `x -> logits`."""
