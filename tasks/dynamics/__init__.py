"""The equations of motion of generated task sets."""
