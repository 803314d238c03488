"""The planes of the service, each of which has a token of its own."""

INFERENCE, MANAGEMENT = "inference", "management"
API = "API"  # the renewal of the others' tokens
EXPIRING = (INFERENCE, MANAGEMENT)
