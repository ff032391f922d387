"""Tasks: their data, label names, metrics and heads."""
