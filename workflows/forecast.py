"""What a plan takes: scenes, tiles, bytes, core and GPU hours, time and cost; nothing is written.

The encoder, and a masker that computes, are timed on this machine for a moment, in processor seconds; the rest is
reckoned at stated rates, whose origin is docs/scale.md.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from dask.system import CPU_COUNT
from shapely.geometry.base import BaseGeometry

from timesenmap.catalogs.bands import BANDS
from timesenmap.model import EncoderConfig
from timesenmap.model.prompts import PromptSet
from timesenmap.pipeline.encode import encoder_of
from timesenmap.pipeline.mask_blocks import BlockMasker
from timesenmap.pipeline.maskers import SCENE_CLASSES, in_words
from timesenmap.pipeline.remote import is_remote
from timesenmap.workflows.cluster_spec import ClusterSpec, read_cluster
from timesenmap.workflows.job import CORE_HOUR_PRICE, GPU_HOUR_PRICE
from timesenmap.workflows.plan import Plan
from timesenmap.workflows.progress import byte_size, duration

# What one core reads, decodes, resamples and composites. Opening a file takes processor time and, over a network,
# waiting for the service.
READ_MB_PER_SECOND = 40.0
OPEN_SECONDS = 0.003
WAIT_SECONDS, WAITING_AT_ONCE = 0.1, 16
# A run's programs, text tower, report.
START_SECONDS = 10.0
# A third of what the data sheet of an A100 says, in bfloat16, for GPU workers where this machine has none to time.
GPU_FLOP_PER_SECOND = 100e12

_PIXELS_TIMED = 2048


@dataclass(frozen=True)
class Rates:
    """What was timed here.

    Attributes
    ----------
    encoder : pixels in a second of one core, or of one GPU where that is the encoder's device
    masker : processor seconds a block; 0 where the masker computes nothing
    """

    encoder: float
    masker: float = 0.0


@dataclass(frozen=True)
class Spread:
    """What the work is spread over.

    Attributes
    ----------
    cores : in all; None where nobody knows before the run
    processes : that do tiles at the same time
    gpus : that encode; 0 where cores do
    words : for people
    """

    cores: int | None
    processes: int
    gpus: int
    words: str


@dataclass(frozen=True)
class Takes:
    """What a run takes.

    Attributes
    ----------
    read, store : bytes before compression
    files : opened at most
    core_seconds : processor seconds by what they go into
    gpu_seconds : of one GPU
    wait_seconds : for answers of a service, one after the other
    """

    read: float
    store: float
    files: int
    core_seconds: dict[str, float]
    gpu_seconds: float
    wait_seconds: float

    @property
    def core_hours(self) -> float:
        """Processor hours in all."""
        return sum(self.core_seconds.values()) / 3600

    def seconds(self, spread: Spread) -> float | None:
        """Wall seconds, where it is known over how many cores the work is spread."""
        if spread.cores is None:
            return None
        start = self.core_seconds["starting"]
        wall = (3600 * self.core_hours - start) / spread.cores + self.gpu_seconds / max(1, spread.gpus)
        return start + wall + self.wait_seconds / (spread.processes * WAITING_AT_ONCE)


def forecast(plan: Plan, *, spread: Spread | None = None) -> list[tuple[str, str]]:
    """Say what a run will do and cost, as (what, how much) rows; nothing is written.

    Parameters
    ----------
    plan : the run
    spread : what it is spread over; by default what ``--cluster`` says
    """
    spread = spread or spread_of(read_cluster(plan.job.cluster), device=plan.encoder.device)
    rates = timed(plan)
    takes = reckon(plan, rates, gpus=spread.gpus)
    height, width = plan.grid.shape.yx
    by_month = list(zip(plan.period.labels, plan.scenes_by_month(), strict=True))
    where = "over the network" if _remote(plan) else "on disk"
    job, config, encoder = plan.job, plan.config, plan.encoder
    each = "a core" if encoder.device == "cpu" else "a GPU"
    return [
        ("area", f"{plan.aoi.name}, {height} x {width} pixels of {job.resolution:g} m in {plan.grid.crs}"),
        ("period", f"{plan.period.start} to {plan.period.end}"),
        ("credentials", _credentials(plan)),
        ("scenes", f"{len(plan.search.scenes)} from {plan.search.profile.title} ({len(plan.search.refused)} left out)"),
        ("by month", ", ".join(f"{month}: {n}" for month, n in by_month)),
        ("months without a scene", ", ".join(month for month, n in by_month if not n) or "none"),
        ("missing passes", plan.missing_passes or ("none" if job.max_cloud_cover is None else "not judged")),
        ("clouds", _clouds(plan, rates)),
        ("tiles", f"{len(plan.tiles)} of up to {job.tile_size} x {job.tile_size} ({plan.pixels:,} pixels)"),
        ("to read", f"about {byte_size(takes.read)} before compression, from at most {takes.files:,} files {where}"),
        ("to store", f"at most {byte_size(takes.store)} for the cube before compression"),
        ("encoder", f"{config.name} on {encoder.device} in {encoder.precision}: {rates.encoder:,.0f} pixels/s {each}"),
        ("work", _work(takes)),
        ("time", _time(takes, spread, where)),
        ("cost", _cost(takes, job.core_hour_price, job.gpu_hour_price)),
        ("maps", ", ".join(_map_in_words(plan, prompts) for prompts in plan.prompt_sets)),
        *([("sheets", f"{len(plan.sheets)} a map, {job.sheet_size:,} pixels on a side")] if plan.sheets else []),
    ]


def spread_of(spec: ClusterSpec, *, device: str) -> Spread:
    """Work out over what a cluster spreads the work; `device` is that of the encoder in this process."""
    if spec.in_this_process:
        cores = int(CPU_COUNT)
        return Spread(cores, 1, int(device != "cpu"), f"{cores} {'core' if cores == 1 else 'cores'} of this machine")
    if spec.workers is None or spec.threads is None:
        return Spread(None, 1, int(spec.gpu or spec.type == "cuda"), "its workers")
    workers, threads = spec.workers.maximum, spec.threads
    gpus = workers if spec.gpu or spec.type == "cuda" else 0
    return Spread(workers * threads, workers, gpus, f"{workers} workers of {threads} threads")


def timed(plan: Plan) -> Rates:
    """Time the plan's encoder, and its masker, on this machine for a moment.

    The encoder's series lack the months that have no scene: it skips what was not seen.
    """
    encoder, side = encoder_of(plan.encoder), plan.config.patch
    shape = (_PIXELS_TIMED, 12, len(BANDS), *((side, side) if side > 1 else ()))
    sample = np.random.default_rng(0).random(shape, np.float32)
    for (_, month), scenes in zip(plan.period.months, plan.scenes_by_month(), strict=True):
        if not scenes:
            sample[:, month - 1] = np.nan
    encoder.embed(sample[:256])
    # Processor seconds of all threads, which hold on a busy machine too; a GPU's time is not among them.
    clock = time.process_time if plan.encoder.device == "cpu" else time.perf_counter
    rate = _PIXELS_TIMED / max(_seconds(lambda: encoder.embed(sample), clock), 1e-9)
    masker = plan.masker
    if not isinstance(masker, BlockMasker):
        return Rates(rate)
    block = np.random.default_rng(0).random((len(masker.bands), masker.block, masker.block), np.float32)
    masker.classify(block)
    return Rates(rate, _seconds(lambda: masker.classify(block), time.process_time))


def reckon(plan: Plan, rates: Rates, *, gpus: int) -> Takes:
    """Reckon what a run takes, at rates that were timed and those that are stated."""
    scenes = plan.search.scenes
    shares = [_share(plan, scene.footprint) for scene in scenes]
    ground = plan.pixels * plan.job.resolution**2
    # Bytes of a square metre: four bands at 10 m, six and SCL at 20 m, 2 bytes each (SCL 1).
    read = sum(shares) * ground * (4 * 2 / 100 + (6 * 2 + 1) / 400)
    files = len(scenes) * (len(BANDS) + 1) * len(plan.tiles)
    opened = sum(shares) * (len(BANDS) + 1) * len(plan.tiles)
    core_seconds = {
        "reading and compositing": opened * OPEN_SECONDS + read / 1e6 / READ_MB_PER_SECOND,
        "starting": START_SECONDS,
    }
    if rates.masker:
        core_seconds["telling clouds"] = _blocks(plan, shares) * rates.masker
    gpu_seconds = 0.0
    if plan.encoder.device != "cpu":
        gpu_seconds = plan.pixels / rates.encoder
    elif gpus:
        months = sum(map(bool, plan.scenes_by_month()))
        gpu_seconds = plan.pixels * flop_of_a_pixel(plan.config, months) / GPU_FLOP_PER_SECOND
    else:
        core_seconds["encoding"] = plan.pixels / rates.encoder
    return Takes(
        read=read,
        store=plan.pixels * 12 * (2 * len(BANDS) + 1),
        files=files,
        core_seconds=core_seconds,
        gpu_seconds=gpu_seconds,
        wait_seconds=opened * WAIT_SECONDS if _remote(plan) else 0.0,
    )


def flop_of_a_pixel(config: EncoderConfig, months: int) -> float:
    """Operations of the encoder's layers for one pixel seen in so many months (the products; attention is little)."""
    tokens, width = months + 1, config.width
    return 2.0 * tokens * config.depth * (4 * width**2 + 2 * width * config.feedforward)


def _seconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    started = clock()
    call()
    return clock() - started


def _work(takes: Takes) -> str:
    parts = sorted(takes.core_seconds.items(), key=lambda part: -part[1])
    total = sum(takes.core_seconds.values())
    said = f"{_hours(takes.core_hours)} core hours: " + ", ".join(
        f"{name} {share / total:.0%}" for name, share in parts
    )
    return said + (f"; {_hours(takes.gpu_seconds / 3600)} GPU hours: encoding" if takes.gpu_seconds else "")


def _time(takes: Takes, spread: Spread, where: str) -> str:
    reckoned = f"each file opened in {1000 * OPEN_SECONDS:g} ms of a core, read at {READ_MB_PER_SECOND:g} MB/s"
    if takes.wait_seconds:
        reckoned += f", {1000 * WAIT_SECONDS:g} ms of waiting {where}, {WAITING_AT_ONCE} at once"
    seconds = takes.seconds(spread)
    if seconds is None:
        return f"the core hours, divided by the cores of {spread.words} ({reckoned}; encoding as timed here)"
    return f"about {duration(seconds)} on {spread.words} ({reckoned}; encoding as timed here)"


def _cost(takes: Takes, core_hour: float, gpu_hour: float) -> str:
    cost = takes.core_hours * core_hour + takes.gpu_seconds / 3600 * gpu_hour
    prices = f"{core_hour:g} a core hour" + (f" and {gpu_hour:g} a GPU hour" if takes.gpu_seconds else "")
    assumed = (core_hour, gpu_hour) == (CORE_HOUR_PRICE, GPU_HOUR_PRICE)
    source = (
        "USD, an assumption: give --core-hour-price, --gpu-hour-price" if assumed else "in the money you gave it in"
    )
    return f"about {cost:,.2f} at {prices} ({source})"


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def _map_in_words(plan: Plan, prompts: PromptSet) -> str:
    below = plan.unknown_below(prompts)
    unknown = f", unknown below {100 * below:g}%" if below else ""
    return f"{prompts.name} ({len(prompts.classes)} classes{unknown})"


def _clouds(plan: Plan, rates: Rates) -> str:
    """Who tells clouds, in words."""
    aside = ", ".join(f"{code} ({SCENE_CLASSES[code]})" for code in plan.set_aside)
    words = f"told by {in_words(plan.masker.identity)}; set aside {aside or 'nothing'}"
    if plan.job.cloud_dilation:
        words += f"; widened by {plan.job.cloud_dilation:g} m"
    if rates.masker:
        blocks = _blocks(plan, [_share(plan, scene.footprint) for scene in plan.search.scenes])
        words += f"; {blocks:,} blocks or more, {rates.masker:.2g} s of a core each without reading"
    return words


def _blocks(plan: Plan, shares: list[float]) -> int:
    """Blocks that a masker computes, at least."""
    masker = plan.masker
    assert isinstance(masker, BlockMasker)
    ground = plan.pixels * plan.job.resolution**2
    return sum(math.ceil(share * ground / (masker.inner * masker.metres) ** 2) for share in shares)


def _share(plan: Plan, footprint: BaseGeometry) -> float:
    """Share of the area that one scene covers."""
    return float(plan.aoi.geometry.intersection(footprint).area / plan.aoi.geometry.area)


def _remote(plan: Plan) -> bool:
    return is_remote(plan.search.scenes[0].href(BANDS[0]))


def _credentials(plan: Plan) -> str:
    missing = plan.search.profile.missing_credentials()
    if missing:
        return f"missing: set {' and '.join(missing)} before the run"
    return ", ".join(plan.search.profile.credentials) or "none needed"
