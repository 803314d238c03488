"""Reads, unpacks, finds and writes model archives. Imports no other package of the project."""
