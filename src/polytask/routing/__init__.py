"""Applies the deltas of each row's adapter to a batch."""
