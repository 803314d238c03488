"""Commands of the group `Requests`: predictions, jobs and dead letters."""
