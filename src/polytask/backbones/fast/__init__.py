"""The fast path on a CPU: faster layers for the families of BERT and ModernBERT."""
