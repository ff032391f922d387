"""Published collections of tasks: GLUE, the paper's 17 text tasks, and SQuAD."""
