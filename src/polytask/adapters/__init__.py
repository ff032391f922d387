"""Adapters: the file, the store, and the live modules."""
