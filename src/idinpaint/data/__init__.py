"""Data sets for training: prepared once, then read."""
