"""Networks of the task sets."""
