"""Files that are there whole or not at all."""

from pathlib import Path


def write_whole(path: Path, content: bytes | str) -> Path:
    """Write beside the target and rename: a reader, or a killed run, never sees half a file. Text is UTF-8."""
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        part.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
