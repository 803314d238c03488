"""Batching policies of plugins, in the place of the default ones of `workers.replica.waiting`."""
