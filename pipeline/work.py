"""The work of one tile in each stage: small values that travel to wherever the tile is done, and arrays that do not.

Each of them is a :data:`~timesenmap.pipeline.tiling.Work`: called with a tile and the stages wanted of it, it
computes the tile, writes it whole into its stores and returns what goes into the ledger. Its `phase` says what kind of
worker should do it, where a cluster has several: ``reading`` or ``encoding``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from odc.geo.geobox import GeoBox

from timesenmap.catalogs.scenes import Scene
from timesenmap.pipeline.answer_kinds import write_answer
from timesenmap.pipeline.aoi import Aoi
from timesenmap.pipeline.cube import MADE_OF, composite_tile, write_tile
from timesenmap.pipeline.donors import Donor, take_months
from timesenmap.pipeline.encode import EncoderRef
from timesenmap.pipeline.grid import Tile, aoi_mask
from timesenmap.pipeline.label import CubeWindow, embed_tile, label_tile, write_embeddings
from timesenmap.pipeline.ledger import TileResult
from timesenmap.pipeline.maskers import Masker
from timesenmap.pipeline.observations import count_observations
from timesenmap.pipeline.period import Period
from timesenmap.pipeline.question import Question
from timesenmap.pipeline.stores import Store, stored_bytes


@dataclass(frozen=True)
class CompositeWork:
    """Composites the scenes of one tile into the cube: twelve monthly medians of ten bands.

    Months that the cube itself or a donor holds as they would be made are taken from there. The attributes are those of
    `composite_tile`; `store` is the cube's, `signatures` are those of its months.
    """

    phase: ClassVar = "reading"
    store: Store
    scenes: tuple[Scene, ...]
    grid: GeoBox
    aoi: Aoi
    period: Period
    masker: Masker
    set_aside: tuple[int, ...]
    cloud_dilation: float
    gdal: Mapping[str, str]
    signatures: tuple[str, ...]
    donors: tuple[Donor, ...] = ()

    def __call__(self, tile: Tile, _: frozenset[str]) -> Mapping[str, TileResult]:
        """Do a tile."""
        itself = Donor(self.store, "", frozenset(range(12)))
        taken = take_months((itself, *self.donors), tile, self.signatures)
        came_from: dict[str, list[int]] = {}
        reflectance, clear = composite_tile(
            self.scenes,
            self.grid,
            tile,
            self.period,
            masker=self.masker,
            set_aside=self.set_aside,
            cloud_dilation=self.cloud_dilation,
            months=[month for month in range(12) if month not in taken],
            gdal=self.gdal,
        )
        for month in sorted(taken):
            (reflectance[month], clear[month]), name = taken.pop(month)  # let go of, one by one: a month is 21 MB
            came_from.setdefault(name, []).append(month)
        checksum = write_tile(self.store, tile, reflectance, clear, signatures=self.signatures)
        size = stored_bytes(self.store, tile, "reflectance", "clear", MADE_OF)
        inside = aoi_mask(self.aoi, tile.geobox(self.grid))
        return {"cube": TileResult(checksum, count_observations(clear, inside), size, came_from)}


@dataclass(frozen=True)
class EmbedWork:
    """Encodes every pixel of a tile of the cube and keeps the embeddings of `dim` numbers in `store`."""

    phase: ClassVar = "encoding"
    store: Store
    cube: CubeWindow
    encoder: EncoderRef
    dim: int

    def __call__(self, tile: Tile, _: frozenset[str]) -> Mapping[str, TileResult]:
        """Do a tile."""
        embedding, scale = embed_tile(tile, self.cube, self.encoder, dim=self.dim)
        return {"embeddings": write_embeddings(self.store, tile, embedding, scale)}


@dataclass(frozen=True)
class Answer:
    """A question, and the store its answer goes to."""

    question: Question
    store: Store


@dataclass(frozen=True)
class LabelWork:
    """Encodes the pixels of a tile once and answers all questions about them.

    `answers` are by the name of their stage; `embeddings` is the store to read instead of encoding, where it is kept.
    """

    answers: Mapping[str, Answer]
    cube: CubeWindow
    encoder: EncoderRef
    embeddings: Store | None
    grid: GeoBox
    aoi: Aoi

    @property
    def phase(self) -> str:
        """What most of it is: encoding, or reading what was kept."""
        return "reading" if self.embeddings else "encoding"

    def __call__(self, tile: Tile, wanted: frozenset[str]) -> Mapping[str, TileResult]:
        """Do a tile."""
        answers = {stage: answer for stage, answer in self.answers.items() if stage in wanted}
        questions = tuple(answer.question for answer in answers.values())
        found = label_tile(tile, self.cube, self.encoder, questions, embeddings=self.embeddings)
        inside = aoi_mask(self.aoi, tile.geobox(self.grid))
        return {
            stage: write_answer(answer.question.kind, answer.store, tile, layers, inside)
            for (stage, answer), layers in zip(answers.items(), found, strict=True)
        }
