"""Heads, metrics, baselines, significance and the choice of settings."""
