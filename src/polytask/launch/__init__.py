"""Packs of work run somewhere: in this process, in one a device, or on a Ray cluster.

A pack is a JSON object. ``work`` is a function at the top level of a module that takes a pack and yields JSON objects,
its messages. A launcher takes packs one at a time as it has room for them, and yields the messages as they come. Ray is
imported here and nowhere else.
"""
