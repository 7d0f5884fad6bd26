"""``infinitic demo``: a booking that outlives its worker."""
