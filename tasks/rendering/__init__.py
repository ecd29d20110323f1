"""Renderers of the pictures of generated task sets."""
