"""Runs packs of training work: in this process, in one process per device, or on a Ray cluster.

A pack is a JSON object. Work is a function at the top level of a module that takes a pack and yields JSON objects, its
messages. A launcher takes the next pack as soon as it has room for it, and yields messages as they arrive. Ray is
imported in ``ray.py`` only. ``step_times`` and ``pace`` estimate how long work takes.
"""
