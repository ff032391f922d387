"""Frozen pretrained transformers."""
