"""Reading prompt sets from YAML, and saying in one line what is wrong with a file."""

import difflib
from collections.abc import Hashable, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from timesenmap.model.errors import ModelError

Model = TypeVar("Model", bound=BaseModel)

_SHIPPED = "timesenmap.model.prompt_sets"


def shipped_prompt_sets() -> tuple[str, ...]:
    """Names of the prompt sets that come with the package."""
    names = (entry.name for entry in files(_SHIPPED).iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def read_prompt_file(name_or_path: str, model: type[Model]) -> Model:
    """Read a shipped set or a YAML file and validate it as `model`.

    Raises
    ------
    ModelError
        One line naming the file, the place in it, the value and the remedy.
    """
    source, label = _find(name_or_path)
    content = _parse(source, label)
    if not isinstance(content, dict):
        raise ModelError(f"{label}: holds no fields; a prompt set has name, title and classes (see the shipped sets)")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ModelError(f"{label}: {_first_problem(error, content, model)}") from error


def _find(name_or_path: str) -> tuple[Traversable | Path, str]:
    """File of a shipped name or path, and what to call it in messages."""
    shipped = shipped_prompt_sets()
    if name_or_path in shipped:
        return files(_SHIPPED) / f"{name_or_path}.yaml", f"shipped prompt set '{name_or_path}'"
    path = Path(name_or_path)
    if path.is_file():
        return path, str(path)
    if name_or_path and path.is_dir():
        raise ModelError(f"prompt set '{name_or_path}' is a folder; name the YAML file in it")
    if path.suffix.lower() in {".yaml", ".yml"} or len(path.parts) > 1:
        raise ModelError(f"prompt set file '{name_or_path}' does not exist; check the path")
    hint = difflib.get_close_matches(name_or_path, shipped, n=1)
    raise ModelError(
        f"prompt set '{name_or_path}' is unknown{f', did you mean {hint[0]}?' if hint else ''}; "
        f"choose one of {', '.join(shipped)} or give the path of a YAML file"
    )


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key given twice is an error: PyYAML keeps the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the field '{key}' is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _parse(source: Traversable | Path, label: str) -> Any:
    try:
        text = source.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"{label}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise ModelError(f"{label}: cannot be read ({error.strerror}); check the file's permissions") from error
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}" if error.problem_mark else "somewhere"
        raise ModelError(f"{label}, {line}: not valid YAML: {error.problem}; check indents and quotes there") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ModelError(f"{label}: not valid YAML: {' '.join(str(error).split())}; check the text") from error


def _first_problem(error: ValidationError, content: dict[str, Any], model: type[BaseModel]) -> str:
    """Class, field, value and remedy of the first problem, and how many more there are."""
    problems = error.errors(include_url=False)
    # pydantic counts only the valid entries of a list, and so also calls it too short where one is wrong.
    problems = [p for p in problems if p["type"] != "too_short" or not _has_deeper(problems, p["loc"])]
    problem = problems[0]
    location = list(problem["loc"])
    where = ""
    if location[:1] == ["classes"] and len(location) > 1:
        where = _class_label(content, int(location[1])) + ", "
        location = location[2:]
    message = where + _describe(problem, location, model if not where else None)
    more = len(problems) - 1
    return message + (f" (and {more} more problem{'s' if more > 1 else ''})" if more else "")


def _has_deeper(problems: Sequence[Any], location: tuple[str | int, ...]) -> bool:
    return any(len(p["loc"]) > len(location) and p["loc"][: len(location)] == location for p in problems)


def _class_label(content: dict[str, Any], index: int) -> str:
    entry = content["classes"][index]
    name = entry.get("name") if isinstance(entry, dict) else None
    return f"class {index + 1} '{name}'" if isinstance(name, str) and name.strip() else f"class {index + 1}"


_CLASS_FIELDS = ("code", "name", "colour", "prompts", "reference", "aliases")


def _describe(problem: Any, location: list[str | int], model: type[BaseModel] | None) -> str:
    """Field, value and remedy; `model` is None inside a class."""
    kind, value = problem["type"], problem["input"]
    field = str(location[0]) if location else ""
    place = " ".join(str(part + 1) if isinstance(part, int) else part for part in location)  # "prompts 2"
    shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
    known = tuple(model.model_fields) if model else _CLASS_FIELDS
    hint = difflib.get_close_matches(field, known, n=1)
    if kind == "value_error":
        reason = str(problem["ctx"]["error"])
        return f"{place} {shown} {reason}" if location else reason  # a check of the whole set names things itself
    if field == "colour" and value is None:
        return 'colour is empty; write it in quotes, as in "#1b7837": a bare # starts a comment in YAML'
    listed = "two entries or more" if field == "classes" else "at least one entry"
    messages = {
        "extra_forbidden": f"unknown field '{place}'; "
        + (f"did you mean '{hint[0]}'?" if hint else f"the fields are {', '.join(known)}"),
        "missing": f"field '{place}' is missing; add it",
        "string_type": f"{place} is empty; write some words"
        if value is None
        else f"{place} {shown} is not text; put it in quotes",
        "int_type": f"{place} {shown} is not a whole number; write one, without quotes",
        "tuple_type": f"{place} {shown} is no list; write a list with {listed}",
        "too_short": f"{place} {shown} is too short a list; write {listed}",
        "model_type": f"{place or 'entry'} {shown} holds no fields; write {', '.join(known[:4])}",
    }
    return messages.get(kind, f"{place or 'content'} {shown}: {problem['msg']}; correct it")


def write_prompt_file(prompt_set: BaseModel, path: Path) -> None:
    """Write a prompt set as YAML that `read_prompt_file` reads back equal; whole or not at all."""
    content = prompt_set.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
