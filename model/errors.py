"""What can go wrong with an encoder, its checkpoint, its texts or its training data."""


class ModelError(ValueError):
    """Bad input to the model: the message names the value, the thing and the remedy (exit code 2)."""
