"""The maps of a run: the values each is made of, how it is written, and what it depends on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from timesenmap.model.prompts import PromptSet
from timesenmap.pipeline import rasters, sheets
from timesenmap.pipeline.answer_kinds import CLASS
from timesenmap.pipeline.cog import Raster, levels_of
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.observations import Observations
from timesenmap.pipeline.workspace import Workspace, signature
from timesenmap.workflows.plan import Plan
from timesenmap.workflows.summary import tags_of, unknown_tags


@dataclass(frozen=True)
class Map:
    """One map of a run.

    Attributes
    ----------
    name : of its file, without suffix
    values : (y, x) or (band, y, x) uint8, of the whole grid
    write : writes values as a file with its sidecars; takes the path, values and the grid they lie on
    """

    name: str
    values: Raster
    write: Callable[..., None]


def map_signatures(plan: Plan) -> dict[str, str]:
    """Signature of all that each map of a run depends on, by its name."""
    valid: dict[str, str] = {}
    for prompts in plan.prompt_sets:
        tags = tags_of(plan, prompts)
        for kind in plan.answer_kinds:
            made_of = signature(**{kind.name: plan.answer_signature(kind, prompts)}, tags=tags)
            valid |= dict.fromkeys(kind.map_names(prompts.name).values(), made_of)
    return valid | {"observations": signature(cube=plan.cube_signature, tags=tags_of(plan))}


def file_signatures(plan: Plan) -> dict[str, str]:
    """Signature of each map file, sheets included, by its name."""
    valid = map_signatures(plan)
    if not plan.sheets:
        return {plan.map_file(name): valid[name] for name in plan.map_names}
    return {
        file: signature(map=valid[name], sheet_size=plan.job.sheet_size)
        for name in plan.map_names
        for file in (*(sheets.sheet_file(name, sheet) for sheet in plan.sheets), plan.map_file(name))
    }


def maps_of(plan: Plan, workspace: Workspace) -> Iterator[Map]:
    """Maps of a run whose tiles are all done, in the order of ``plan.map_names``."""
    for prompts in plan.prompt_sets:
        write = _writers(plan, prompts)
        for kind in plan.answer_kinds:
            store = workspace.answers(kind, prompts.name)
            for array, name in kind.map_names(prompts.name).items():
                yield Map(name, store.array(array), write[array])
    tags = tags_of(plan)
    seen = Observations(workspace.cube, plan.aoi, plan.grid)
    observations = partial(rasters.write_observation_map, tags=tags)
    yield Map("observations", seen, observations)


def _writers(plan: Plan, prompts: PromptSet) -> dict[str, Callable[..., None]]:
    """What writes each array of the answers to a prompt set as a map."""
    tags = tags_of(plan, prompts)
    legend = plan.legend(prompts)
    return {
        CLASS: partial(rasters.write_class_map, classes=legend, tags=tags | unknown_tags(plan, prompts)),
        "confidence": partial(rasters.write_confidence_map, tags=tags),
        "probability": partial(rasters.write_probability_map, classes=prompts.classes, tags=tags),
        "margin": partial(rasters.write_margin_map, tags=tags),
    }


def write_map(one: Map, plan: Plan, workspace: Workspace, advance: Callable[[int], None]) -> None:
    """Write a map as one file, or as sheets and their VRT; files that stand are kept, another form of it is removed.

    `advance` is told of each file.
    """
    grid, name, valid = plan.grid, plan.map_file(one.name), file_signatures(plan)
    if not plan.sheets:
        workspace.write_file(name, valid[name], partial(one.write, values=one.values, grid=grid))
        advance(1)
        sheets.remove_other_form(workspace.out, one.name, [name])
        return
    levels = levels_of(plan.job.sheet_size)
    files: dict[Tile, Path] = {}
    for sheet in plan.sheets:
        file = sheets.sheet_file(one.name, sheet)
        values, window = sheets.SheetValues(one.values, sheet), sheet.geobox(grid)
        workspace.write_file(file, valid[file], partial(one.write, values=values, grid=window, levels=levels))
        files[sheet] = workspace.out / file
        advance(1)
    workspace.write_file(name, valid[name], partial(sheets.write_mosaic, sheets=files, grid=grid))
    advance(1)
    sheets.remove_other_form(workspace.out, one.name, [name, *(sheets.sheet_file(one.name, s) for s in plan.sheets)])
