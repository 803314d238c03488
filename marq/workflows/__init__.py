"""Workflows: graphs of models and functions, and the runs of them."""
