"""Authorization: tokens, and the authorizers of plugins."""
