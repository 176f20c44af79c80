"""Losses of the recipes, as pure functions."""
