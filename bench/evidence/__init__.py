"""What the numbers show: pure functions of arrays."""
