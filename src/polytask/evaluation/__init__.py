"""Heads, metrics, baselines and significance."""
