"""Jobs: submitted, awaited, listed and grouped; their options and events."""
