"""The systems to compare with; they run in an environment of their own (`make bench`), so nothing here imports mm_ray."""
