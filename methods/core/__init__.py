"""The contract of a balancing rule, the code that measures and applies gradients, and the registry of rules by name."""
