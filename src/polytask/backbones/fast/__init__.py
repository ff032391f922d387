"""Faster layers on a CPU for the families of BERT and ModernBERT."""
