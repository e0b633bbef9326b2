"""The widths of the branches fitted to data and to a budget."""
