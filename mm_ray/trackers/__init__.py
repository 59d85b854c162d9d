"""Trackers, one file each: they show the rounds of runs, trials and cells live (`mm_ray.runtime.tracking`)."""
