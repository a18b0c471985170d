"""A finished run to describe: plausible maps on disk and the record that belongs to them.

Everything is drawn from one seed; counts in the record are counted from the arrays with NumPy, so that tests can
hold what the describing parts write against the arrays as well as against the record.
"""

import datetime as dt
import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.features import geometry_mask

from timesenmap.pipeline.legend import UNKNOWN, LegendEntry
from timesenmap.pipeline.rasters import (
    write_class_map,
    write_confidence_map,
    write_margin_map,
    write_observation_map,
)
from timesenmap.pipeline.record import (
    ClassRecord,
    EncoderRecord,
    GridRecord,
    MapRecord,
    ObservationRecord,
    RefusedRecord,
    RunRecord,
    SceneRecord,
)

LAND_COVER = [
    LegendEntry(1, "Artificial land", "#d7301f"),
    LegendEntry(2, "Cropland", "#f2c14e"),
    LegendEntry(3, "Woodland", "#1b7837"),
    LegendEntry(4, "Shrubland", "#9c7a3c"),
    LegendEntry(5, "Grassland", "#a6d96a"),
    LegendEntry(6, "Bare land", "#c9b8a8"),
    LegendEntry(7, "Water", "#2b7bba"),
    LegendEntry(8, "Wetland", "#7b5ea7"),
]
_CROP_NAMES = [
    "Common wheat",
    "Durum wheat",
    "Barley",
    "Rye",
    "Oats",
    "Maize",
    "Rice",
    "Triticale",
    "Potatoes",
    "Sugar beet",
    "Other root crops",
    "Sunflower",
    "Rape and turnip rape",
    "Soya",
    "Cotton",
    "Other fibre and oleaginous crops",
    "Tobacco",
    "Dry pulses",
    "Tomatoes",
    "Other fresh vegetables",
    "Floriculture and ornamental plants",
    "Strawberries",
    "Clovers",
    "Lucerne",
    "Other leguminous fodder mixtures",
    "Temporary grassland",
]
CROPS = [
    LegendEntry(10 + i, name, f"#{60 + i * 67 % 190:02x}{50 + i * 113 % 200:02x}{40 + i * 41 % 190:02x}")
    for i, name in enumerate(_CROP_NAMES)
]
HOSTILE = "Grass <script>alert('x')</script> & \"quotes\" — prairie humide d'été"


@dataclass(frozen=True)
class Run:
    """A run as it lies on disk, and the arrays it was made of."""

    out: Path
    record: RunRecord
    grid: GeoBox
    inside: np.ndarray
    classes: dict[str, np.ndarray]
    confidence: dict[str, np.ndarray]
    margin: dict[str, np.ndarray]
    observations: np.ndarray


def _fields(height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Field number of every pixel: cells around random points, distance squeezed so that fields are long."""
    count = max(6, height * width // 700)
    points = rng.random((count, 2)) * [height, width]
    y, x = np.mgrid[:height, :width]
    angle = 0.5
    u, v = y * np.cos(angle) + x * np.sin(angle), (x * np.cos(angle) - y * np.sin(angle)) * 0.55
    pu = points[:, 0] * np.cos(angle) + points[:, 1] * np.sin(angle)
    pv = (points[:, 1] * np.cos(angle) - points[:, 0] * np.sin(angle)) * 0.55
    best = np.full((height, width), np.inf)
    number = np.zeros((height, width), int)
    for i in range(count):
        distance = (u - pu[i]) ** 2 + (v - pv[i]) ** 2
        closer = distance < best
        best[closer], number[closer] = distance[closer], i
    return number, count


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


def _counted(entry: LegendEntry, *, values: np.ndarray, confidence: np.ndarray) -> ClassRecord:
    where = values == entry.code
    return ClassRecord(
        code=entry.code,
        name=entry.name,
        colour=entry.colour,
        pixels=int(where.sum()),
        mean_confidence=_mean(confidence[where]),
    )


def _landscape(height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    number, count = _fields(height, width, rng)
    kind = rng.choice([2, 2, 2, 2, 5, 5, 3], count)
    land = kind[number].astype(np.uint8)
    crop = np.where(kind[number] == 2, rng.integers(0, 17, count)[number] + 10, 0)
    crop = np.where(kind[number] == 5, 35, crop).astype(np.uint8)
    y, x = np.mgrid[:height, :width]
    forest = ((y - height * 0.2) / (height * 0.22)) ** 2 + ((x - width * 0.75) / (width * 0.3)) ** 2 < 1
    river = np.abs(x - width * 0.35 - width * 0.08 * np.sin(y / height * 9)) < max(1.5, width * 0.012)
    lake = ((y - height * 0.8) / (height * 0.1)) ** 2 + ((x - width * 0.72) / (width * 0.13)) ** 2 < 1
    town = ((y - height * 0.62) / (height * 0.13)) ** 2 + ((x - width * 0.15) / (width * 0.12)) ** 2 < 1
    streets = town & (((x + y // 3) % 9 < 7) | (y % 11 < 2))
    for where, cover in ((forest, 3), (streets, 1), (river | lake, 7)):
        land[where] = cover
        crop[where] = 0
    speckle = rng.random((height, width)) < 0.012
    land[speckle] = rng.integers(1, 9, speckle.sum())
    return land, np.where(crop == 0, 35, crop).astype(np.uint8)


def _aoi(grid: GeoBox) -> shapely.Polygon:
    """An eight-cornered area with a hole, in the grid's CRS."""
    box = grid.extent.geom.bounds
    w, h = box[2] - box[0], box[3] - box[1]
    ring = [(0.02, 0.1), (0.3, 0.01), (0.8, 0.03), (0.99, 0.3), (0.97, 0.85), (0.7, 0.99), (0.15, 0.96), (0.01, 0.6)]
    hole = [(0.55, 0.5), (0.62, 0.48), (0.64, 0.56), (0.57, 0.58)]
    place = [[(box[0] + a * w, box[1] + b * h) for a, b in corners] for corners in (ring, hole)]
    return shapely.Polygon(place[0], [place[1]])


def _lonlat(geometry: shapely.Geometry, epsg: int) -> shapely.Geometry:
    forward = Transformer.from_crs(epsg, 4326, always_xy=True)
    return shapely.transform(geometry, lambda xy: np.column_stack(forward.transform(xy[:, 0], xy[:, 1])))


def make_run(
    out: Path,
    *,
    height: int = 360,
    width: int = 420,
    maps: int = 2,
    epsg: int = 32631,
    title: str = "Fields near Ypres, 2018",
    odd_name: str | None = None,
    unknown_below: float = 0.0,
    margin: bool = False,
) -> Run:
    """Write the maps of a run into ``out`` and return them with their record.

    Where ``unknown_below`` is given, the land cover (not the crops) is unknown where its confidence is below. With
    ``margin`` the land cover has a map of the margin, too.
    """
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(20180611)
    grid = GeoBox((height, width), Affine(10, 0, 501360, 0, -10, 5629680), f"EPSG:{epsg}")
    aoi = _aoi(grid)
    inside = geometry_mask([aoi], (height, width), grid.affine, invert=True)
    land, crop = _landscape(height, width, rng)
    months = np.clip(rng.normal(9, 0.8, (height, width)) - 3 * (np.arange(width) > width * 0.6), 1, 12)
    seen = np.rint(months).astype(np.uint8)
    seen[: max(1, height // 14), int(width * 0.4) : int(width * 0.55)] = 0
    observations = np.where(inside, seen, 255).astype(np.uint8)
    classified = inside & (seen > 0)

    land_cover = list(LAND_COVER)
    if odd_name is not None:
        land_cover[4] = LegendEntry(5, odd_name, land_cover[4].colour)
    licence = "Contains modified Copernicus Sentinel data 2018"
    write_observation_map(out / "observations.tif", observations, grid, tags={"licence": licence})
    records, classes, confidences, margins = [], {}, {}, {}
    chosen = (("land-cover", "Land cover", land_cover, land), ("crops", "Crops", CROPS, crop))[:maps]
    for name, map_title, entries, codes in chosen:
        values = np.where(classified, codes, 0).astype(np.uint8)
        smooth = 62 + 18 * np.sin(np.arange(width) / 37) + rng.normal(0, 9, (height, width))
        confidence = np.where(classified, np.clip(smooth - (values == 1) * 20, 8, 99), 255).astype(np.uint8)
        below = unknown_below if name == "land-cover" else 0.0
        values[classified & (confidence < 100 * below)] = UNKNOWN.code
        shown = [*entries, UNKNOWN] if below else entries
        write_class_map(out / f"{name}.tif", values, grid, shown, tags={"title": map_title, "licence": licence})
        write_confidence_map(out / f"{name}.confidence.tif", confidence, grid, tags={"licence": licence})
        classes[name], confidences[name] = values, confidence
        if margin and name == "land-cover":  # at least what two classes alone would leave
            lead = np.where(classified, np.maximum(2 * confidence.astype(int) - 100, confidence // 4), 255)
            margins[name] = lead.astype(np.uint8)
            write_margin_map(out / f"{name}.margin.tif", margins[name], grid, tags={"licence": licence})
        count = partial(_counted, values=values, confidence=confidence)
        records.append(
            MapRecord(
                prompt_set=name,
                title=map_title,
                prompts_sha256=hashlib.sha256(name.encode()).hexdigest(),
                class_map=f"{name}.tif",
                confidence_map=f"{name}.confidence.tif",
                margin_map=f"{name}.margin.tif" if name in margins else None,
                classes=tuple(count(e) for e in entries),
                unknown=count(UNKNOWN) if below else None,
                unknown_below=below,
                no_data_pixels=int((inside & (values == 0)).sum()),
                confidence_histogram=tuple(np.bincount(confidence[classified], minlength=101).tolist()),
                margin_histogram=tuple(np.bincount(margins[name][classified], minlength=101).tolist())
                if name in margins
                else None,
                checksum=hashlib.sha256((out / f"{name}.tif").read_bytes()).hexdigest(),
            )
        )
    scenes_by_month = (6, 8, 9, 11, 12, 12, 13, 11, 10, 9, 6, 4)
    scenes = tuple(
        SceneRecord(
            id=f"S2{'AB'[day % 2]}_MSIL2A_2018{month:02}{1 + day * 2:02}T105{day % 10}21_R0{51 + day % 2 * 43}_T31UFS",
            datetime=dt.datetime(2018, month, 1 + day * 2, 10, 50 + day % 10, 21, tzinfo=dt.UTC),
            baseline="02.06" if day % 3 else "05.00",
            radiometry=dict.fromkeys(
                ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
                "scale 0.0001 offset 0: baseline 02.06 is before 04.00"
                if day % 3
                else "scale 0.0001 offset -0.1: baseline 05.00 adds 1000",
            ),
        )
        for month, count in enumerate(scenes_by_month, start=1)
        for day in range(count)
    )
    share = rng.uniform(0.45, 0.97, 12)
    transform = tuple(grid.affine)[:6]
    record = RunRecord(
        title=title,
        created=dt.datetime(2026, 6, 11, 14, 5, 9, tzinfo=dt.UTC),
        job={"aoi": "fields.geojson", "prompts": ["land-cover", "crops"][:maps], "year": 2018, "tile_size": 512},
        versions={"timesenmap": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "rasterio": "1.4.4", "gdal": "3.10.3"},
        catalogue="earth-search (https://earth-search.aws.element84.com/v1, sentinel-2-l2a)",
        attribution=licence,
        aoi=shapely.geometry.mapping(_lonlat(shapely.segmentize(aoi, 50), epsg)),
        aoi_notes=("a ring that crossed itself was repaired",),
        grid=GridRecord(crs=f"EPSG:{epsg}", shape=(height, width), transform=transform, resolution=10.0),
        scenes=scenes,
        refused=(
            RefusedRecord(id="S2A_31UFS_20180714_0_L2A", reason="states offset -0.1 and boa_offset_applied true"),
            RefusedRecord(id="S2B_31UFS_20180921_0_L2A", reason="a later processing of the same acquisition was used"),
        ),
        set_aside=(0, 1, 3, 8, 9, 10),
        encoder=EncoderRecord(
            name="starter",
            sha256=hashlib.sha256(b"weights").hexdigest(),
            text_tower="sentence-transformers:all-MiniLM-L6-v2",
            temperature=0.07,
            device="cpu",
            precision="float32",
            training_data="LUCAS 2018 series",
            licence="CC BY 4.0",
        ),
        observations=ObservationRecord(
            months=tuple(f"2018-{m:02}" for m in range(1, 13)),
            scenes_by_month=scenes_by_month,
            clear_share_by_month=tuple(float(s) for s in share),
            clear_months_histogram=tuple(np.bincount(observations[inside], minlength=13).tolist()),
        ),
        maps=tuple(records),
        timings={"search": 2.4, "cube": 81.3, "encode": 44.9, "maps": 3.2, "report": 1.8},
        warnings=("no clear observation in 2018-12 for 31% of the area",),
    )
    return Run(out, record, grid, inside, classes, confidences, margins, observations)
