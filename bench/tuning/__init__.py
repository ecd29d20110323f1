"""Chooses learning rates, and options on request, by trials on seeds that are never reported."""
