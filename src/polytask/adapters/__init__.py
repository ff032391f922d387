"""Adapters: the file, the store, and the modules on a backbone."""
