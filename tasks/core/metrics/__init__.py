"""Metrics, one file for each kind, so that a run's key depends only on the kinds that its task set uses."""
