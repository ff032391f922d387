"""Loading and running frozen pretrained transformers."""
