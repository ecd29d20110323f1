"""What balancing rules are made of."""
