"""Replies on the side that awaits them: their entries, their reader, the requests that wait."""
