"""Trackers, a file each: what shows the rounds of runs, trials and cells while they come (`mm_ray.runtime.tracking`)."""
