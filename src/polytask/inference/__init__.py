"""Answers texts with many adapters on one backbone.

The way of a call: ``predict`` makes the adapters ready, ``inputs`` checks the texts and turns them into token ids,
``scoring`` batches them and runs the backbone and the heads (``prefix`` computes shared lower layers once), and
``prediction`` turns each row's scores into an answer.
"""
