"""Many adapters answering on one backbone."""
