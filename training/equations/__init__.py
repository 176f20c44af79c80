"""Pure functions that the recipes share, one an equation."""
