"""Reading the tables a user gives."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from timesenmap.model.errors import ModelError


def read_table(path: str | Path, *, what: str, columns: Sequence[str], remedy: str) -> pd.DataFrame:
    """Read a parquet, or a CSV by its suffix; errors name the file, what it is and what to give."""
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"{what} '{file}': not found; {remedy} (README.md, 'Simulated series', says who has it)")
    try:
        table = pd.read_csv(file) if file.suffix.lower() == ".csv" else pd.read_parquet(file)
    except (OSError, ValueError) as error:  # the errors of pyarrow and of pandas' parser derive from these
        reason = str(error).splitlines()[0]
        raise ModelError(f"{what} '{file}' cannot be read ({reason}): {remedy}") from None
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ModelError(f"{what} '{file}': column {missing[0]} is missing ({len(missing)} in all): {remedy}")
    return table
