"""Fit, evaluate, save and restore: plain torch, which knows neither Ray nor papers."""
