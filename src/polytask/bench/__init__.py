"""How fast it is on this machine, beside what one has. ``benchmarks/`` measures the same things at length."""
