"""An HTTP server for all adapters of a store, in one process on one backbone.

Suggested reading order: ``engine`` (one forward pass for rows of any tasks), ``batcher`` (dynamic batching),
``residency`` (adapters in memory), ``catalog`` (names and versions), ``service`` (a request from admission to answer),
``app`` and ``api`` (the HTTP dialects), ``run`` (the process).
"""
