"""What can go wrong between a catalogue and a list of scenes."""


class CatalogError(ValueError):
    """Bad catalogue, profile or item: the message names the value, the thing and the remedy (exit code 2)."""
