"""Model archives: what is in them, how they are unpacked, found and written. Imports nothing else of marq."""
