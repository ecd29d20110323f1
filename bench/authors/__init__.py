"""Writes the first version of an author's own rule or task set."""
