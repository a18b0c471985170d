"""Command-line options made from a pydantic model, so that flags and file fields cannot drift apart."""

import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from pydantic import BaseModel
from pydantic_core import PydanticUndefined


def options_of(model: type[BaseModel], *, repeated: tuple[str, ...] = ()) -> Callable[[Any], Any]:
    """Decorate a click command with one option for each field of `model`.

    Help texts are the fields' descriptions. Options that are not given are None and leave the field to the job file
    or its default; the model, not click, checks the values. `repeated` names the fields that may be given several
    times.
    """

    def decorate(command: Any) -> Any:
        for name, field in reversed(model.model_fields.items()):
            kind = _plain_type(field.annotation)
            default = field.default
            shown = "" if default in (None, PydanticUndefined, False) else f"  [default: {_shown(default)}]"
            flag = "--" + name.replace("_", "-")
            help_text = (field.description or "") + shown
            if kind is bool:
                option = click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=help_text)
            elif name in repeated:
                option = click.option(flag, name, multiple=True, help=help_text)
            else:
                option = click.option(flag, name, default=None, metavar=_METAVARS.get(kind, "TEXT"), help=help_text)
            command = option(command)
        return command

    return decorate


def given(options: dict[str, object]) -> dict[str, object]:
    """Keep the options that were given on the command line."""
    return {name: value for name, value in options.items() if value is not None and value != ()}


def refuse_flags(context: click.Context) -> None:
    """Refuse flags of a command that stand before one of its subcommands, which would not heed them."""
    for parameter in context.command.params:
        if context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{parameter.opts[0]} has no meaning for '{context.invoked_subcommand}'; leave it out", context
            )


_METAVARS: dict[Any, str] = {int: "N", float: "X", Path: "PATH"}


def _shown(value: object) -> str:
    return ",".join(str(part) for part in value) if isinstance(value, tuple) else str(value)


def _plain_type(annotation: Any) -> Any:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next(kind for kind in typing.get_args(annotation) if kind is not type(None))
    return annotation
