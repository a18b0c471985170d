"""What can go wrong between an area of interest and its maps."""


class MapError(ValueError):
    """Bad input to the pipeline: the message names the value, the thing and the remedy (exit code 2)."""


class SceneReadError(RuntimeError):
    """A scene's asset could not be read: the message names item, asset, address and cause (exit code 1)."""


class LockedError(RuntimeError):
    """Another run holds the folder or the job: the message names who, where and since when (exit code 3)."""


class StoreError(OSError):
    """A store could not be read or written: the message names the object and the cause (exit code 1)."""


class ClusterError(RuntimeError):
    """A cluster could not be had or went away; what was finished is kept (exit code 1)."""
