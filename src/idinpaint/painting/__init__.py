"""Filling the hole: painters of every kind, and what one face is given."""
