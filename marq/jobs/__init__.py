"""Jobs beyond queueing one: options, lists, groups, events."""
