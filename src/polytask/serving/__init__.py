"""All adapters of a store behind HTTP, from one process on one backbone.

Read in this order: ``engine`` (one forward pass for rows of any tasks), ``batcher`` (requests become batches),
``residency`` and ``catalog`` (which adapters are in memory, which version a name means), ``service`` (a request from
admission to answer), ``app`` and ``api`` (HTTP dialects over it), ``run`` (the process).
"""
