"""Metrics, one file a kind: what a task set does not use is no part of what its numbers depend on."""
