"""Tasks and their data: file readers, columns, labels, splits, checks, encoding and batches."""
