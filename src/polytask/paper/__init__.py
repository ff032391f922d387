"""Reproduces the paper's tables and figures. matplotlib is imported in this package only."""
