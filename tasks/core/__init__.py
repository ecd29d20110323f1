"""What task sets are made of."""
