"""Where rows meet adapters."""
