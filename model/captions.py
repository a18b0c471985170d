"""From the labels of many sources to plain English captions, at two levels: crop or species, and land cover.

The reviewed table is ``captions.yaml``, beside this module.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from timesenmap.model.errors import ModelError
from timesenmap.model.yaml_files import read_yaml

Kind = Literal["crop", "trees", "land"]

UNLABELLED = -1
"""Caption number of a dropped row, and of the land cover of a caption that allows several."""


class Caption(BaseModel):
    """What land can be called."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = Field(description="which templates fit")
    landcover: str | None = Field(description="caption of its land cover; null: the word allows several")
    within: tuple[str, ...] = Field(default=(), description="captions that are true as well")
    related: tuple[str, ...] = Field(default=(), description="captions that may be true as well")
    unchanging: bool = Field(default=False, description="a single date may stand for other months")
    phrasings: tuple[str, ...] = Field(description="other wordings, used in training", min_length=1)
    unseen: tuple[str, ...] = Field(description="wordings kept for the free-wording test", min_length=1)


class LabelEntry(BaseModel):
    """What a source's label means: a caption, or nothing for a reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    caption: str | None = None
    drop: str | None = Field(default=None, description="why rows with this label are not used")
    why: str | None = Field(default=None, description="a judgement that is not obvious")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.caption is None) == (self.drop is None):
            raise ValueError("a label has either a caption or a reason to drop it")
        return self


def _entry(value: Any) -> Any:
    return {"caption": value} if isinstance(value, str) else value


class Source(BaseModel):
    """Labels of one source (column ``dataset``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str
    labels: dict[str, Annotated[LabelEntry, BeforeValidator(_entry)]]


class CaptionTable(BaseModel):
    """The reviewed table; captions are numbered in the order of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    templates: dict[Kind, tuple[str, ...]] = Field(description='sentences with "{}" around a wording')
    distractors: tuple[tuple[str, ...], ...] = Field(
        default=(), description="words for what is no land, by theme: far from every series in training"
    )
    captions: dict[str, Caption]
    sources: dict[str, Source]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for template in (template for kind in self.templates.values() for template in kind):
            if template.count("{}") != 1:
                raise ValueError(f"template '{template}' needs one {{}}")
        away = {word for theme in self.distractors for word in theme}
        for name, caption in self.captions.items():
            if clash := away & {name, *caption.phrasings, *caption.unseen}:
                raise ValueError(f"caption '{name}': {sorted(clash)} is among distractors")
            land = (caption.landcover,) if caption.landcover else ()
            for other in (*caption.within, *caption.related, *land):
                if other not in self.captions:
                    raise ValueError(f"caption '{name}' names '{other}', which is no caption")
            known = {name, *caption.phrasings}
            if known & set(caption.unseen):
                raise ValueError(f"caption '{name}': {sorted(known & set(caption.unseen))} is both used and unseen")
        for source, entry in self.labels():
            if entry.caption is not None and entry.caption not in self.captions:
                raise ValueError(f"source '{source}' maps a label to '{entry.caption}', which is no caption")
        return self

    def labels(self) -> Iterator[tuple[str, LabelEntry]]:
        """Every entry with its source."""
        return ((name, entry) for name, source in self.sources.items() for entry in source.labels.values())

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Captions by number."""
        return tuple(self.captions)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Number of each caption."""
        return {name: number for number, name in enumerate(self.captions)}

    @cached_property
    def landcover(self) -> npt.NDArray[np.int64]:
        """(captions,) number of the caption of its land cover, or UNLABELLED."""
        return np.array(
            [self.numbers[c.landcover] if c.landcover else UNLABELLED for c in self.captions.values()], np.int64
        )

    @cached_property
    def spared(self) -> npt.NDArray[np.bool_]:
        """(captions, captions): [i, j] is True where j does not speak against land called i.

        That is i itself, captions related to it, and all within it: land known as "annual cropland" only may
        well be "maize". Not so the other way round: of land known as "maize", "maize" says more than "annual
        cropland", and should win where both are asked.
        """
        matrix = np.eye(len(self.names), dtype=bool)
        for name, caption in self.captions.items():
            for other in (*caption.within, *((caption.landcover,) if caption.landcover else ())):
                matrix[self.numbers[other], self.numbers[name]] = True
            for other in caption.related:
                matrix[self.numbers[name], self.numbers[other]] = matrix[self.numbers[other], self.numbers[name]] = True
        return matrix

    @property
    def compatible(self) -> npt.NDArray[np.bool_]:
        """(captions, captions), symmetric: both may be true of one place."""
        return self.spared | self.spared.T

    def wordings(self, name: str) -> tuple[str, ...]:
        """Training sentences of a caption: each of its wordings in each template of its kind."""
        caption = self.captions[name]
        words = (name, *caption.phrasings)
        return tuple(dict.fromkeys(t.format(word) for t in self.templates[caption.kind] for word in words))


@dataclass(frozen=True)
class Labelled:
    """Captions of the rows of a series table.

    Attributes
    ----------
    caption, landcover
        int (n,) caption numbers, UNLABELLED where dropped (both) or where the caption allows several (landcover).
    dropped
        Rows dropped by reason.
    """

    caption: npt.NDArray[np.int64]
    landcover: npt.NDArray[np.int64]
    dropped: dict[str, int]


def load_captions(path: str | Path | None = None) -> CaptionTable:
    """Read a caption table: the project's own, or a YAML file of the same fields."""
    return read_yaml(CaptionTable, path, what="caption table", package="timesenmap.model", name="captions.yaml")


def label_rows(table: CaptionTable, frame: pd.DataFrame) -> Labelled:
    """Caption of every row, from its ``dataset`` and ``label``.

    Raises
    ------
    ModelError
        A source or label the table does not know: it must be reviewed, not guessed.
    """
    pairs: Sequence[tuple[str, str]] = list(zip(frame["dataset"].astype(str), frame["label"].astype(str), strict=True))
    caption_of: dict[tuple[str, str], int] = {}
    reasons: Counter[str] = Counter()
    for pair, count in Counter(pairs).items():
        dataset, label = pair
        if dataset not in table.sources:
            raise ModelError(f"source '{dataset}' is not in the caption table: add it under sources with its labels")
        entry = table.sources[dataset].labels.get(label)
        if entry is None:
            raise ModelError(
                f"label '{label}' of source '{dataset}' ({count} rows) is not in the caption table: "
                "map it to a caption or drop it with a reason"
            )
        if entry.caption is None:
            reasons[f"{dataset}: {label}: {entry.drop}"] += count
            caption_of[pair] = UNLABELLED
        else:
            caption_of[pair] = table.numbers[entry.caption]
    caption = np.array([caption_of[pair] for pair in pairs], np.int64)
    landcover = np.where(caption == UNLABELLED, UNLABELLED, table.landcover[caption])
    return Labelled(caption=caption, landcover=landcover, dropped=dict(reasons))
