"""The HTTP routes of workflows."""
