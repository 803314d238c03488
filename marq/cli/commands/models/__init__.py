"""Commands of the group `Models`: archives, and the management API."""
