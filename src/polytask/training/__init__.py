"""Trains adapters: recipes, the loop, checkpoints, sweeps and tuning."""
