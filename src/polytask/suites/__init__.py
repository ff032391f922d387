"""Published collections of tasks: GLUE, 17 text tasks, SQuAD."""
