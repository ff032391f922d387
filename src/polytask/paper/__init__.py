"""Tables and figures. matplotlib is imported here and nowhere else."""
