"""`make bench`: what things cost, by ratio."""
