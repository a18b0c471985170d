"""What can go wrong between a catalogue and a list of scenes."""


class CatalogError(ValueError):
    """Bad catalogue, profile or item: the message names the value, the thing and the remedy (exit code 2)."""


class ServiceError(CatalogError):
    """A service that did not answer, or answered that it cannot now: worth another try later (exit code 1)."""
