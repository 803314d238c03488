"""Passes requests, and the ends of jobs, on to the observers of plugins."""
