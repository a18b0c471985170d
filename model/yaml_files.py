"""Tables of the project that a user may replace: a YAML file, checked field by field."""

from importlib import resources
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from timesenmap.model.errors import ModelError

Table = TypeVar("Table", bound=BaseModel)


def read_yaml(table: type[Table], path: str | Path | None, *, what: str, package: str, name: str) -> Table:
    """Read a YAML file of the fields of ``table``.

    Parameters
    ----------
    path
        The file; None: ``name`` in ``package``.
    what
        What messages call it ("caption table").

    Raises
    ------
    ModelError
        Unreadable file, no YAML, or a field that does not fit: one line that names file and field.
    """
    if path is None:
        text, source = resources.files(package).joinpath(name).read_text("utf-8"), name
    else:
        source = str(path)
        try:
            text = Path(path).read_text("utf-8")
        except OSError as error:
            raise ModelError(f"{what} '{source}' cannot be read: {error.strerror}") from None
    try:
        return table.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ModelError(f"{what} '{source}' is no YAML: {str(error).splitlines()[0]}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise ModelError(f"{what} '{source}': {place}: {fault['msg'].removeprefix('Value error, ')}") from None
