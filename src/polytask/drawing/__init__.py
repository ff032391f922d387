"""Figures, tables and pages: what the reports, the paper's exhibits, sweeps and evaluations share."""
