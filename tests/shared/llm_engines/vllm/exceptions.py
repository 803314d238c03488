class VLLMClientError(Exception):
    """Of newer versions; older ones raise ValueError."""
