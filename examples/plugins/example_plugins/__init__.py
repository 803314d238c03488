"""Plugins for marq, each in a module of its own."""
