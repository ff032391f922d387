"""Reproduces the paper: editions of trials, the ledger of their results, and the exhibits made of these."""
