"""A run made into files that answer like it."""
