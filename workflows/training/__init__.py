"""Training configurations for train-encoder."""
