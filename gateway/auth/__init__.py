"""Who may ask what: tokens, and the authorizers of plugins."""
