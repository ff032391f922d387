"""Applies to each row of a batch the deltas of its own adapter."""
