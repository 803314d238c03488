"""Commands of the group `Server`: start, stop and look at it."""
