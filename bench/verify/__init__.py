"""Re-trains a share of recorded runs, and says which of them come out the same."""
