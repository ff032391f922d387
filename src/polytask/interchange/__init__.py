"""Imports adapters from the files of other libraries, and exports adapters to them."""
