"""Trains and scores one run. This code defines the numbers: a change of it marks every stored run as changed."""
