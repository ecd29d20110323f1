"""The contract of a task set, losses, metrics, protocols, and the code that finds, checks and keeps data."""
