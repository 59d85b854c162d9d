"""From media files to a feature store: list, decode, compute, write, resumably."""
