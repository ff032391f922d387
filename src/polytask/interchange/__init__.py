"""Adapters in the files of other libraries: what they save is imported, what we train is exported."""
