"""Plugins: packages of others that add to marq. docs/plugins.md describes the groups."""
