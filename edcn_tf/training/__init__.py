"""Prepared data -> a run directory with the best model: `edcn train`."""
