"""The job: what one run of make-map is asked to do, from a YAML file and from flags."""

import datetime as dt
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from timesenmap.pipeline.cog import BLOCK
from timesenmap.pipeline.composite import SCL_SET_ASIDE
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.grid import default_tile_size
from timesenmap.pipeline.maskers import SCENE_CLASSIFICATION
from timesenmap.pipeline.period import Period
from timesenmap.pipeline.sheets import SHEET
from timesenmap.pipeline.stores import Store, is_url
from timesenmap.workflows.cluster_spec import LOCAL
from timesenmap.workflows.runs import Runs, check_placeholders, checked_out, has_placeholder, in_period

DEFAULT_CATALOG = "earth-search-c1"

# For --dry-run, in USD: what docs/scale.md assumes.
CORE_HOUR_PRICE, GPU_HOUR_PRICE = 0.045, 2.0
LATEST = "latest"
"""As `start` of a job: the last twelve months that are over."""

_TO_START_FROM = "`make-map --show-config` with your flags prints one to start from"


def _tile_size(value: int) -> int:
    if not 16 <= value <= 1024 or value % 16:
        msg = f"{value} is not a multiple of 16 from 16 to 1024"
        raise ValueError(msg)
    return value


def _sheet_size(value: int) -> int:
    if value < BLOCK or value % BLOCK:
        msg = f"{value} is not a multiple of {BLOCK}"
        raise ValueError(msg)
    return value


def _work(value: str | None) -> str | None:
    """Make a path absolute: it is read again by other commands, and by workers elsewhere."""
    if value is None:
        return None
    check_placeholders(value)
    return str(Store.at(value if is_url(value) else Path(value).expanduser()))


def _one_or_many(value: Any) -> Any:
    """Take "land-cover" for ["land-cover"] and "0,1,3" for [0, 1, 3], as people write them."""
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def _one(value: Any) -> Any:
    """Take a single path for a list of one."""
    return (value,) if isinstance(value, str | Path) else value


def _joined(value: Any) -> Any:
    """Take [minx, miny, maxx, maxy] for "minx,miny,maxx,maxy", as YAML invites."""
    return ",".join(str(number) for number in value) if isinstance(value, list | tuple) else value


class Job(BaseModel):
    """Everything a run is asked to do; the same names are flags of make-map and keys of a job file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    aoi: Annotated[str, BeforeValidator(_joined)] = Field(
        description="area of interest: GeoJSON, GeoPackage or Shapefile, or minx,miny,maxx,maxy (lon/lat)"
    )
    aoi_crs: str | None = Field(None, description="CRS of the area of interest where it is not lon/lat")
    prompts: Annotated[tuple[str, ...], BeforeValidator(_one_or_many)] = Field(
        min_length=1, description="prompt set: a shipped name or the path of a YAML file; may be given several times"
    )
    year: int | None = Field(None, ge=2015, le=2100, description="calendar year to map")
    start: str | None = Field(
        None,
        description="first of the twelve months, YYYY-MM (instead of --year); latest: the last twelve months that are "
        "over (UTC)",
    )
    catalog: str | None = Field(
        None,
        description="where scenes come from: profile name, static STAC catalogue, or URL of a STAC API; default: "
        f"{DEFAULT_CATALOG}, or what --items records",
    )
    collection: str | None = Field(None, description="collection to search, where the catalogue has several")
    items: Path | None = Field(
        None,
        description="take the scenes from this file instead of searching: stac-geoparquet or item collection, such as "
        "work/items.parquet of an earlier run",
    )
    out: Annotated[Path, AfterValidator(checked_out)] = Field(
        description="output folder; {start} and {end} in it stand for the first and the last month (YYYY-MM): a folder "
        "for each period"
    )
    work: Annotated[str | None, AfterValidator(_work)] = Field(
        None,
        description="where cube, labels and embeddings lie: a folder that all workers see, or s3://bucket/prefix, with "
        "{start} and {end} as in --out; default: work/ in the output folder",
    )
    reuse: Annotated[tuple[Path, ...], BeforeValidator(_one)] = Field(
        (),
        description="take months of the cube from this run's folder, too, where they would come out the same; may be "
        "given several times; runs beside this one that --out names need no mention",
    )
    keep_runs: int | None = Field(
        None,
        ge=1,
        description="of the folders that --out with {start} or {end} names, keep those of so many newest periods; "
        "older ones are removed after a run that succeeded",
    )
    keep_work: int | None = Field(
        None, ge=1, description="of these keep the stores in work/ in so many newest only; maps stay"
    )
    encoder: str = Field("starter", description="shipped encoder or path of a .safetensors checkpoint")
    unknown_below: float | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="probability, 0 to 1 (0.6 is 60 % confidence), below which the best class is not believed and a "
        "pixel is left unknown (code 255); default: what the prompt set says itself, or 0 (never)",
    )
    probabilities: bool = Field(
        False, description="also write the probability of every class, in percent, a band each: PROMPTS.probability.tif"
    )
    margin: bool = Field(
        False,
        description="also write by how much the best class leads the second best, in percent: PROMPTS.margin.tif",
    )
    crs: str | None = Field(None, description="CRS of the maps; default: UTM zone of the area, else equal area")
    resolution: float = Field(10.0, gt=0, le=1000, description="pixel size of the maps in metres")
    tile_size: Annotated[int, AfterValidator(_tile_size)] = Field(
        default_factory=default_tile_size,
        description="unit of work, pixels on a side: a multiple of 16, at most 1024; default: 1024, or 512 or 256 on a "
        "machine of less than 2 or 1 GiB",
    )
    sheet_size: Annotated[int, AfterValidator(_sheet_size)] = Field(
        SHEET,
        description=f"side in pixels, a multiple of {BLOCK}, of the sheets in which larger maps are written, with a "
        "VRT that shows them as one",
    )
    cluster: str = Field(
        LOCAL,
        description="where tiles are done: local (this machine), tcp://host:8786 (a running Dask scheduler), or "
        "a YAML file of a cluster to start (workflows/clusters)",
    )
    core_hour_price: float = Field(
        CORE_HOUR_PRICE, ge=0, allow_inf_nan=False, description="price of a core hour, for --dry-run; assumed, in USD"
    )
    gpu_hour_price: float = Field(
        GPU_HOUR_PRICE, ge=0, allow_inf_nan=False, description="price of a GPU hour, for --dry-run; assumed, in USD"
    )
    keep_embeddings: bool = Field(
        False, description="keep the embeddings (int8), so that new prompts need no encoding again"
    )
    masker: str = Field(
        SCENE_CLASSIFICATION.name,
        description="who tells clouds and their shadows: scl (the scenes' own classification), csmask (a network; "
        "pip install 'timesenmap[csmask]'), or what another package offers",
    )
    set_aside: Annotated[tuple[int, ...] | None, BeforeValidator(_one_or_many)] = Field(
        None,
        description="classes that are not clear observations, in the codes of SCL; default: what the masker suggests "
        f"(scl: {','.join(map(str, sorted(SCL_SET_ASIDE)))}; csmask: 0,3,9)",
    )
    cloud_dilation: float = Field(
        0.0, ge=0, le=2000, description="metres by which clouds and cloud shadows (SCL 3, 8, 9, 10) are widened"
    )
    max_cloud_cover: float | None = Field(
        None, ge=0, le=100, description="leave out scenes with more cloud than this, in percent"
    )
    skip_bad_items: bool = Field(
        False, description="set aside and count scenes whose metadata cannot be believed, instead of stopping"
    )

    @model_validator(mode="before")
    @classmethod
    def _default_catalog(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and fields.get("catalog") is None and fields.get("items") is None:
            return {**fields, "catalog": DEFAULT_CATALOG}
        return fields

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.year is None) == (self.start is None):
            raise ValueError("give either year or start (YYYY-MM), one of them")
        wrong = [code for code in self.set_aside or () if not 0 <= code <= 11]
        if wrong:
            msg = f"set_aside {wrong[0]} is not an SCL class (0 to 11)"
            raise ValueError(msg)
        for name in ("keep_runs", "keep_work"):
            if getattr(self, name) is not None and not Runs(self.out).many:
                msg = f"{name} needs a folder for each period: give out with {{start}} or {{end}}, as in maps/{{start}}"
                raise ValueError(msg)
        if self.work is not None and Runs(self.out).many and not has_placeholder(self.work):
            msg = f"work {self.work} needs {{start}} or {{end}}, too, as out has: a place for each period"
            raise ValueError(msg)
        return self

    def settled(self, today: dt.date | None = None) -> Self:
        """The job with its months and its folder named, so that it gives the same maps on any other day.

        `today` (UTC) decides what the latest months are; by default the clock does. What changes no map is left out:
        which runs to keep, and where else months may be taken from.
        """
        start = self.start
        if start == LATEST:
            start = Period.latest(today or dt.datetime.now(dt.UTC).date()).labels[0]
        folder, work = self.out, self.work
        if Runs(self.out).many:
            folder = Runs(self.out).folder(Period.of(self.year, start))
        if work is not None and has_placeholder(work):
            work = in_period(work, Period.of(self.year, start))
        return self.model_copy(
            update={"start": start, "out": folder, "work": work, "reuse": (), "keep_runs": None, "keep_work": None}
        )

    def to_yaml(self) -> str:
        """Write the job as a job file that gives the same job again."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def resolve_job(flags: dict[str, object], job_file: Path | None) -> Job:
    """Join a job file and flags into a job; flags win.

    Relative paths in a job file are relative to the folder the command runs in, as those of flags are.

    Raises
    ------
    MapError
        naming the unknown or wrong field, its value and what it takes.
    """
    fields: dict[str, object] = {}
    if job_file is not None:
        fields = _read(job_file)
    if "year" in flags or "start" in flags:  # a flag for the period replaces the file's, whichever way it was said
        fields = {name: value for name, value in fields.items() if name not in ("year", "start")}
    fields |= flags
    try:
        return Job.model_validate(fields)
    except ValidationError as error:
        raise MapError(_first_problem(error, job_file)) from error


def _read(job_file: Path) -> dict[str, object]:
    try:
        fields = yaml.safe_load(job_file.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"--job {job_file}: cannot be read ({error.strerror}); name a YAML file"
        raise MapError(msg) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = " ".join(str(error).split())
        msg = f"--job {job_file}: is not YAML ({where}); {_TO_START_FROM}"
        raise MapError(msg) from error
    if not isinstance(fields, dict):
        msg = f"--job {job_file}: holds {type(fields).__name__}, not fields with values; {_TO_START_FROM}"
        raise MapError(msg)
    return fields


def _first_problem(error: ValidationError, job_file: Path | None) -> str:
    problem = error.errors()[0]
    field = str(problem["loc"][0]) if problem["loc"] else ""
    origin = f"job {job_file}" if job_file else "job"
    flag = "--" + field.replace("_", "-")
    if problem["type"] == "missing":
        return f"{origin}: {flag} is missing; give {Job.model_fields[field].description}"
    if problem["type"] == "extra_forbidden":
        return f"{origin}: unknown field {field!r}; the fields are {', '.join(Job.model_fields)}"
    reason = problem["msg"].removeprefix("Value error, ")
    if not field:
        return f"{origin}: {reason}"
    return f"{origin}: {flag} {problem['input']!r}: {reason}; give {Job.model_fields[field].description}"
