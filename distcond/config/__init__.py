"""A whole run as one frozen value, and the ways to name, override and identify it."""
