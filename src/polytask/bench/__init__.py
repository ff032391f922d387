"""Speed on this machine beside other libraries. ``benchmarks/`` measures the same in more detail."""
