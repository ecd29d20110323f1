"""The gate, which the command `compare` runs: has a method, or the cost of its step, become worse than a baseline?"""
