"""The fast path on a CPU: the layers of BERT's family over frozen parts."""
