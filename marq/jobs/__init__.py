"""What there is to jobs beyond queueing one: options, lists, many at once."""
