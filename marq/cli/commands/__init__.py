"""The commands of `marq`, one module each."""
