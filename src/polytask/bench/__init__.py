"""Measures the speed of this machine next to other libraries; ``benchmarks/`` measures the same in more detail."""
