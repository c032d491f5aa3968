"""Confusion matrix, video consistency, and the protocols they are counted by. NumPy only."""
