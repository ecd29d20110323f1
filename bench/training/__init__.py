"""Trains and scores one run. What is here defines the numbers, so a change of it marks every stored run as changed."""
