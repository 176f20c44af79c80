"""Damage: drawn for training, and found in photos."""
