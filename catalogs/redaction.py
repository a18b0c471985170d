"""Keeping keys out of logs: what follows "?" in an address may be a signature."""

import logging
import re

_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*")


class _WithoutQueries(logging.Filter):
    """Rewrites a record's message with the addresses' queries left out."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record, redacted."""
        record.msg, record.args = _QUERY.sub(r"\1?...", record.getMessage()), ()
        return True


def redact_gdal_log() -> None:
    """Redact what GDAL logs through rasterio: its warnings of retried requests carry the whole address. Idempotent."""
    for name in ("rasterio._err", "rasterio._env"):  # where it logs while something is read, and before
        logger = logging.getLogger(name)
        if not any(isinstance(known, _WithoutQueries) for known in logger.filters):
            logger.addFilter(_WithoutQueries())
