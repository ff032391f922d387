"""Drawing with matplotlib: what the pages, the paper's figures, sweeps and evaluations share."""
