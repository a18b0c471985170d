"""The plan of a run: everything that was asked, checked and found, before anything is written."""

import collections
import math
import os
import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from odc.geo.geobox import GeoBox
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from timesenmap.catalogs import SceneSearch
from timesenmap.catalogs.bands import BANDS
from timesenmap.catalogs.missing_passes import expected_passes, missing_in_words
from timesenmap.model import EncoderConfig
from timesenmap.model.prompts import PromptSet
from timesenmap.pipeline import sheets
from timesenmap.pipeline.aoi import Aoi
from timesenmap.pipeline.encode import EncoderRef, encoder_of
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.legend import UNKNOWN, LegendClass
from timesenmap.pipeline.mask_blocks import BlockMasker
from timesenmap.pipeline.maskers import SCENE_CLASSES, Masker, in_words
from timesenmap.pipeline.months import month_signatures
from timesenmap.pipeline.period import Period
from timesenmap.pipeline.question import Question
from timesenmap.pipeline.stores import Store
from timesenmap.pipeline.workspace import signature, stores_at
from timesenmap.workflows.job import Job
from timesenmap.workflows.progress import duration

# Rates for a forecast, stated with it: what one process reads and decodes from a service in the same region.
READ_MB_PER_SECOND = 40.0
OPEN_SECONDS = {"on disk": 0.003, "over the network": 0.1}

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

    @staticmethod
    def labels_stage(prompts: PromptSet) -> str:
        """Name of the stage that labels the pixels with one prompt set."""
        return f"labels:{prompts.name}"

    def labels_signature(self, prompts: PromptSet) -> str:
        """Hash of all the labels of one prompt set depend on."""
        return signature(
            embeddings=self.embeddings_signature,
            prompts=prompts.sha256,
            from_stored=self.job.keep_embeddings,
            unknown_below=self.unknown_below(prompts),
        )

    @staticmethod
    def probabilities_stage(prompts: PromptSet) -> str:
        """Name of the stage that gives every class of one prompt set its probability."""
        return f"probabilities:{prompts.name}"

    def probabilities_signature(self, prompts: PromptSet) -> str:
        """Hash of all the probabilities of one prompt set depend on."""
        return signature(
            embeddings=self.embeddings_signature, prompts=prompts.sha256, from_stored=self.job.keep_embeddings
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
        kinds = ("", ".confidence", ".probability") if self.job.probabilities else ("", ".confidence")
        return (*(f"{prompts.name}{kind}" for prompts in self.prompt_sets for kind in kinds), "observations")

    @property
    def stage_names(self) -> set[str]:
        """Stages of the run, as the ledger names them."""
        names = {"cube", *map(self.labels_stage, self.prompt_sets)}
        if self.job.keep_embeddings:
            names.add("embeddings")
        return names | set(map(self.probabilities_stage, self.prompt_sets if self.job.probabilities else ()))

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


def forecast(plan: Plan) -> list[tuple[str, str]]:
    """Say what a run will do and cost, as (what, how much) rows; nothing is written.

    The encoder is timed on this machine for a moment; reading is reckoned at a stated rate.
    """
    height, width = plan.grid.shape.yx
    by_month = plan.scenes_by_month()
    encoder = encoder_of(plan.encoder)
    side = plan.config.patch
    sample = np.random.default_rng(0).random((2048, 12, len(BANDS), *((side, side) if side > 1 else ())), np.float32)
    encoder.embed(sample[:256])
    started = time.perf_counter()
    encoder.embed(sample)
    rate = len(sample) / (time.perf_counter() - started)
    read = sum(_bytes_read(plan, scene.footprint) for scene in plan.search.scenes)
    store = plan.pixels * 12 * (2 * len(BANDS) + 1)
    where = "over the network" if "://" in plan.search.scenes[0].href(BANDS[0]) else "on disk"
    files = len(plan.search.scenes) * (len(BANDS) + 1) * len(plan.tiles)
    opening = files * OPEN_SECONDS[where] / (os.cpu_count() or 1)
    masking, masked = _masking(plan)
    seconds = opening + read / 1e6 / READ_MB_PER_SECOND + plan.pixels / rate + masking
    missing = [f"{year}-{month:02d}" for (year, month), n in zip(plan.period.months, by_month, strict=True) if not n]
    reckoned = f"each file opened in {1000 * OPEN_SECONDS[where]:g} ms, read at {READ_MB_PER_SECOND:g} MB/s"
    return [
        ("area", f"{plan.aoi.name}, {height} x {width} pixels of {plan.job.resolution:g} m in {plan.grid.crs}"),
        ("period", f"{plan.period.start} to {plan.period.end}"),
        ("credentials", _credentials(plan)),
        ("scenes", f"{len(plan.search.scenes)} from {plan.search.profile.title} ({len(plan.search.refused)} left out)"),
        (
            "by month",
            ", ".join(f"{y}-{m:02d}: {n}" for (y, m), n in zip(plan.period.months, by_month, strict=True)),
        ),
        ("months without a scene", ", ".join(missing) or "none"),
        ("missing passes", plan.missing_passes or ("none" if plan.job.max_cloud_cover is None else "not judged")),
        ("clouds", masked),
        ("tiles", f"{len(plan.tiles)} of up to {plan.job.tile_size} x {plan.job.tile_size} ({plan.pixels:,} pixels)"),
        ("to read", f"about {byte_size(read)} before compression, from at most {files:,} files {where}"),
        ("to store", f"at most {byte_size(store)} for the cube before compression"),
        (
            "encoder",
            f"{plan.config.name} on {plan.encoder.device} in {plan.encoder.precision}: {rate:,.0f} pixels/s now",
        ),
        ("time", f"about {duration(seconds)} ({reckoned}; encoding as measured)"),
        ("maps", ", ".join(_map_in_words(plan, prompts) for prompts in plan.prompt_sets)),
        *([("sheets", f"{len(plan.sheets)} a map, {plan.job.sheet_size:,} pixels on a side")] if plan.sheets else []),
    ]


def _map_in_words(plan: Plan, prompts: PromptSet) -> str:
    below = plan.unknown_below(prompts)
    unknown = f", unknown below {100 * below:g}%" if below else ""
    return f"{prompts.name} ({len(prompts.classes)} classes{unknown})"


def _masking(plan: Plan) -> tuple[float, str]:
    """Seconds it takes to compute masks, timed on this machine for a moment, and who tells clouds, in words."""
    aside = ", ".join(f"{code} ({SCENE_CLASSES[code]})" for code in plan.set_aside)
    words = f"told by {in_words(plan.masker.identity)}; set aside {aside or 'nothing'}"
    if plan.job.cloud_dilation:
        words += f"; widened by {plan.job.cloud_dilation:g} m"
    masker = plan.masker
    if not isinstance(masker, BlockMasker):
        return 0.0, words
    sample = np.random.default_rng(0).random((len(masker.bands), masker.block, masker.block), np.float32)
    masker.classify(sample)
    started = time.perf_counter()
    masker.classify(sample)
    each = time.perf_counter() - started
    square_metres = (masker.inner * masker.metres) ** 2
    ground = plan.pixels * plan.job.resolution**2
    blocks = sum(math.ceil(_share(plan, scene.footprint) * ground / square_metres) for scene in plan.search.scenes)
    words += f"; {blocks:,} blocks or more, {each:.2g} s each without reading"
    return blocks * each / (os.cpu_count() or 1), words


def _share(plan: Plan, footprint: BaseGeometry) -> float:
    """Share of the area that one scene covers."""
    return float(plan.aoi.geometry.intersection(footprint).area / plan.aoi.geometry.area)


def _credentials(plan: Plan) -> str:
    missing = plan.search.profile.missing_credentials()
    if missing:
        return f"missing: set {' and '.join(missing)} before the run"
    return ", ".join(plan.search.profile.credentials) or "none needed"


def _bytes_read(plan: Plan, footprint: BaseGeometry) -> float:
    """Bytes of one scene's pixels that fall in the area: four bands at 10 m, six and SCL at 20 m, 2 bytes (SCL 1)."""
    square_metres = plan.pixels * plan.job.resolution**2
    return float(_share(plan, footprint) * square_metres * (4 * 2 / 100 + (6 * 2 + 1) / 400))


def byte_size(amount: float) -> str:
    """Bytes for people: "1.2 GB", "3.4 MB"."""
    return f"{amount / 1e9:.1f} GB" if amount >= 1e9 else f"{amount / 1e6:.1f} MB"
