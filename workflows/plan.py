"""The plan of a run: everything that was asked, checked and found, before anything is written."""

import collections
from dataclasses import dataclass
from functools import cached_property

from odc.geo.geobox import GeoBox
from shapely.geometry import mapping

from timesenmap.catalogs import SceneSearch
from timesenmap.catalogs.missing_passes import expected_passes, missing_in_words
from timesenmap.model import EncoderConfig
from timesenmap.model.prompts import PromptSet
from timesenmap.pipeline import sheets
from timesenmap.pipeline.answer_kinds import KINDS, LABELS, MARGINS, PROBABILITIES, AnswerKind
from timesenmap.pipeline.aoi import Aoi
from timesenmap.pipeline.encode import EncoderRef
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.legend import UNKNOWN, LegendClass
from timesenmap.pipeline.maskers import Masker
from timesenmap.pipeline.months import month_signatures
from timesenmap.pipeline.period import Period
from timesenmap.pipeline.question import Question
from timesenmap.pipeline.stores import Store
from timesenmap.pipeline.workspace import signature, stores_at
from timesenmap.workflows.job import Job

_NO_PROFILE = ", nor does AWS_PROFILE name a profile with these keys"


@dataclass(frozen=True)
class Plan:
    """A checked job: its area, grid, months, scenes, encoder and questions, and the tiles it will do.

    `set_aside` are the scene classes that are not clear, of those that `masker` tells.
    """

    job: Job
    aoi: Aoi
    period: Period
    grid: GeoBox
    prompt_sets: tuple[PromptSet, ...]
    encoder: EncoderRef
    config: EncoderConfig
    tiles: tuple[Tile, ...]
    search: SceneSearch
    masker: Masker
    set_aside: tuple[int, ...]
    questions: tuple[Question, ...] = ()

    @property
    def pixels(self) -> int:
        """Pixels of all tiles."""
        return sum(tile.pixels for tile in self.tiles)

    @property
    def stores(self) -> Store:
        """Where the stores lie."""
        return stores_at(self.job.out, self.job.work)

    @cached_property
    def place(self) -> dict[str, object]:
        """What the maps are maps of; an output folder holds one place only."""
        grid = self.grid
        return {
            "crs": str(grid.crs),
            "transform": list(grid.affine)[:6],
            "shape": list(grid.shape.yx),
            "start": self.period.start.isoformat(),
            "aoi": self.aoi.geometry.wkt,
        }

    @cached_property
    def month_signatures(self) -> tuple[str, ...]:
        """Hash of all that each month of the cube depends on."""
        return month_signatures(
            self.search.scenes,
            self.grid,
            self.period,
            masker=self.masker.identity,
            set_aside=self.set_aside,
            cloud_dilation=self.job.cloud_dilation,
        )

    @cached_property
    def cube_signature(self) -> str:
        """Hash of all the cube depends on."""
        return signature(place=self.place, months=self.month_signatures)

    @cached_property
    def embeddings_signature(self) -> str:
        """Hash of all the embeddings depend on."""
        encoder = self.encoder
        return signature(
            cube=self.cube_signature, encoder=encoder.sha256, device=encoder.device, precision=encoder.precision
        )

    @property
    def answer_kinds(self) -> tuple[AnswerKind, ...]:
        """What the prompt sets are answered with."""
        asked = {LABELS: True, PROBABILITIES: self.job.probabilities, MARGINS: self.job.margin}
        return tuple(kind for kind in KINDS if asked[kind])

    def answer_signature(self, kind: AnswerKind, prompts: PromptSet) -> str:
        """Hash of all one kind of answer to one prompt set depends on."""
        threshold = {"unknown_below": self.unknown_below(prompts)} if kind.with_threshold else {}
        return signature(
            embeddings=self.embeddings_signature,
            prompts=prompts.sha256,
            from_stored=self.job.keep_embeddings,
            **threshold,
        )

    @cached_property
    def sheets(self) -> tuple[Tile, ...]:
        """Sheets that each map is written as; none where it is one file."""
        return tuple(sheets.cut(self.grid, self.job.sheet_size, self.aoi))

    def map_file(self, name: str) -> str:
        """File of a map: a GeoTIFF, or the VRT of its sheets."""
        return f"{name}.vrt" if self.sheets else f"{name}.tif"

    @property
    def map_names(self) -> tuple[str, ...]:
        """Maps of the run, as their files are named without suffix."""
        names = (kind.map_names(prompts.name) for prompts in self.prompt_sets for kind in self.answer_kinds)
        return (*(name for one in names for name in one.values()), "observations")

    @property
    def stage_names(self) -> set[str]:
        """Stages of the run, as the ledger names them."""
        names = {"cube", *(kind.stage(prompts.name) for prompts in self.prompt_sets for kind in self.answer_kinds)}
        return names | ({"embeddings"} if self.job.keep_embeddings else set())

    @property
    def map_files(self) -> set[str]:
        """Files of all maps, their sheets included."""
        files = {self.map_file(name) for name in self.map_names}
        return files | {sheets.sheet_file(name, sheet) for name in self.map_names for sheet in self.sheets}

    def unknown_below(self, prompts: PromptSet) -> float:
        """Probability below which pixels stay unknown: the job's, else the prompt set's own; 0 is never."""
        asked = prompts.unknown_below if self.job.unknown_below is None else self.job.unknown_below
        return asked or 0.0

    def legend(self, prompts: PromptSet) -> tuple[LegendClass, ...]:
        """Classes of a prompt set's map, and unknown where pixels may stay so."""
        return (*prompts.classes, UNKNOWN) if self.unknown_below(prompts) else prompts.classes

    def scenes_by_month(self) -> tuple[int, ...]:
        """Scenes in each of the twelve months."""
        counted = collections.Counter((scene.datetime.year, scene.datetime.month) for scene in self.search.scenes)
        return tuple(counted[month] for month in self.period.months)

    @cached_property
    def missing_passes(self) -> str:
        """Passes that the scenes' own rhythm lets expect and that are missing, in words; empty where none is.

        Not judged where scenes were left out for their clouds.
        """
        if self.job.max_cloud_cover is not None:
            return ""
        return missing_in_words(expected_passes(self.search.scenes, start=self.period.start, end=self.period.end))

    def require_scenes(self) -> None:
        """Refuse a job without a single scene, and say what to look at."""
        if self.search.scenes:
            return
        west, south, east, north = self.aoi.geometry.bounds
        source = f"--catalog {self.job.catalog}" if self.job.items is None else f"--items {self.job.items}"
        msg = (
            f"{source}: no scene from {self.period.start} to {self.period.end} touches the area "
            f"(lon {west:.4f} to {east:.4f}, lat {south:.4f} to {north:.4f}); "
            "check --aoi, --aoi-crs, --year and where the scenes come from"
        )
        if self.search.refused:
            msg += f"; {len(self.search.refused)} were refused, first {self.search.refused[0].id}: "
            msg += self.search.refused[0].reason
        raise MapError(msg)

    def require_names(self) -> None:
        """Refuse a prompt set with a class of the name that pixels without a class are to have."""
        for prompts in self.prompt_sets:
            taken = [cls for cls in prompts.classes if cls.name.casefold() == UNKNOWN.name]
            if taken and self.unknown_below(prompts):
                raise MapError(
                    f"prompt set '{prompts.name}': class {taken[0].code} is called '{taken[0].name}', as are pixels "
                    f"below --unknown-below (code {UNKNOWN.code}); rename the class, or give --unknown-below 0"
                )

    def require_credentials(self) -> None:
        """Refuse a job whose scenes cannot be read for want of credentials, before anything is written."""
        profile = self.search.profile
        missing = profile.missing_credentials()
        if missing:
            where = f" (get them: {profile.credentials_from})" if profile.credentials_from else ""
            raise MapError(
                f"--catalog {profile.name}: reading its scenes needs credentials in the environment, and "
                f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set"
                f"{_NO_PROFILE if missing[0].startswith('AWS_') else ''}{where}"
            )

    def geojson(self) -> dict[str, object]:
        """Area of interest as a GeoJSON geometry, lon/lat."""
        return dict(mapping(self.aoi.geometry))
