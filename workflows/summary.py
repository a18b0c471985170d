"""From what a run left in its ledger to the record that readers trust."""

import datetime as dt
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import rasterio

from timesenmap.catalogs import Scene
from timesenmap.catalogs.bands import BANDS
from timesenmap.model.prompts import PromptSet
from timesenmap.pipeline.answer_kinds import CLASS, LABELS, MARGINS
from timesenmap.pipeline.figures import licence_line, percent, unknown_rule
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.legend import OBSERVATIONS, UNKNOWN, LegendClass
from timesenmap.pipeline.maskers import in_words
from timesenmap.pipeline.profile import PHASES
from timesenmap.pipeline.record import (
    ClassRecord,
    EncoderRecord,
    GridRecord,
    MapRecord,
    ObservationRecord,
    ProfileRecord,
    RefusedRecord,
    RunRecord,
    SceneRecord,
    SheetRecord,
)
from timesenmap.pipeline.sheets import sheet_file
from timesenmap.pipeline.workspace import Workspace, sha256_of
from timesenmap.workflows.plan import Plan
from timesenmap.workflows.progress import byte_size, duration
from timesenmap.workflows.reuse import months_of

# A pixel of fewer months is mapped, and said to be little seen.
_FEW_MONTHS = 4


def tags_of(plan: Plan, prompts: PromptSet | None = None) -> dict[str, str]:
    """Metadata written into the maps; nothing in it changes from one run of a job to the next."""
    tags = {
        "TIFFTAG_SOFTWARE": f"timesenmap {version('timesenmap')}",
        "PERIOD": f"{plan.period.start}/{plan.period.end}",
        "SCENES": str(len(plan.search.scenes)),
        "MASKER": in_words(plan.masker.identity),
        "CATALOGUE": plan.search.profile.title,
        "ATTRIBUTION": licence_line(plan.search.profile.attribution, _months(plan)),
        "TITLE": f"{OBSERVATIONS.title}, {_period_words(plan)}",
    }
    if prompts is not None:
        tags |= {
            "TITLE": f"{prompts.title}, {_period_words(plan)}",
            "ENCODER": f"{plan.config.name} sha256:{plan.encoder.sha256}",
            "PROMPTS": f"{prompts.name} sha256:{prompts.sha256}",
        }
    return tags


def unknown_tags(plan: Plan, prompts: PromptSet) -> dict[str, str]:
    """Metadata of a class map whose pixels may be unknown: the probability below which they are."""
    below = plan.unknown_below(prompts)
    return {"UNKNOWN_BELOW": f"{below:g}"} if below else {}


def record_of(plan: Plan, workspace: Workspace, seconds: dict[str, float]) -> RunRecord:
    """Sum up a finished run."""
    seen = workspace.ledger.totals("cube")
    pixels = seen["pixels"][0]
    observations = ObservationRecord(
        months=_months(plan),
        scenes_by_month=plan.scenes_by_month(),
        clear_share_by_month=tuple(round(n / pixels, 6) if pixels else 0.0 for n in seen["clear_by_month"]),
        clear_months_histogram=tuple(seen["clear_months"]),
    )
    maps = tuple(_map(plan, prompts, workspace) for prompts in plan.prompt_sets)
    return RunRecord(
        title=f"{' and '.join(prompts.title for prompts in plan.prompt_sets)}: {plan.aoi.name}, {_period_words(plan)}",
        created=dt.datetime.now(dt.UTC).replace(microsecond=0),
        job=plan.job.model_dump(mode="json"),
        versions=_versions(),
        catalogue=plan.search.profile.title,
        attribution=plan.search.profile.attribution,
        aoi=plan.geojson(),
        aoi_notes=tuple(plan.aoi.notes),
        grid=GridRecord(
            crs=str(plan.grid.crs),
            shape=plan.grid.shape.yx,
            transform=tuple(plan.grid.affine)[:6],
            resolution=plan.job.resolution,
        ),
        scenes=tuple(_scene(scene) for scene in plan.search.scenes),
        refused=tuple(RefusedRecord(id=refused.id, reason=refused.reason) for refused in plan.search.refused),
        masker=plan.masker.identity,
        set_aside=plan.set_aside,
        cloud_dilation=plan.job.cloud_dilation,
        encoder=EncoderRecord(
            name=plan.config.name,
            sha256=plan.encoder.sha256,
            text_tower=plan.config.text_tower,
            temperature=plan.config.temperature,
            device=plan.encoder.device,
            precision=plan.encoder.precision,
            training_data=plan.config.training_data,
            licence=plan.config.licence,
        ),
        observations=observations,
        maps=maps,
        observation_map=plan.map_file("observations"),
        sheets=_sheets(plan, workspace),
        months=months_of(workspace.ledger, plan.period),
        timings=dict(seconds),
        profile=_profile(plan, workspace),
        warnings=tuple(_warnings(observations, pixels, plan.missing_passes, maps)),
    )


def report_lines(record: RunRecord, out: Path) -> list[str]:
    """Say what a run made, for the terminal: files, and area and confidence of each class found."""
    hectares = record.grid.resolution**2 / 10_000
    lines = []
    for made in record.maps:
        lines.append(f"{out / made.class_map}  {made.title}")
        found = sorted((cls for cls in made.classes if cls.pixels), key=lambda cls: -cls.pixels)
        lines += [
            f"  {cls.name:<40}{cls.pixels * hectares:>12,.1f} ha  confidence {cls.mean_confidence:.0f} %"
            for cls in found
        ]
        if made.unknown is not None:
            name, pixels = f"unknown ({unknown_rule(made)})", made.unknown.pixels
            seen = sum(cls.pixels for cls in made.legend)
            lines.append(
                f"  {name:<40}{pixels * hectares:>12,.1f} ha  {percent(pixels / max(1, seen))} of what was seen"
            )
        if made.no_data_pixels:
            lines.append(f"  {'no data':<40}{made.no_data_pixels * hectares:>12,.1f} ha")
    lines += [f"warning: {warning}" for warning in record.warnings]
    if record.profile is not None:
        lines.append(profile_line(record.profile))
    lines.append(f"{out / 'index.html'}  report; {out / 'map.qgz'}  QGIS project; {out / 'run.json'}  record")
    return lines


def profile_line(profile: ProfileRecord) -> str:
    """Say where the time of a run went, in one line."""
    phases = ", ".join(
        f"{phase} {duration(seconds)}" for phase, seconds in profile.seconds.items() if duration(seconds) != "0 s"
    )
    return (
        f"{profile.bound}: {phases or 'nothing took a second'}; {byte_size(profile.bytes_read)} read, "
        f"{byte_size(profile.bytes_written)} written, {profile.pixels_per_second:,.0f} pixels/s"
    )


def _profile(plan: Plan, workspace: Workspace) -> ProfileRecord:
    spent = workspace.ledger.spent(plan.stage_names, plan.map_files)
    seconds = {phase: round(took, 3) for phase, took in sorted(spent.phases.items(), key=lambda one: -one[1])}
    most = next(iter(seconds))
    return ProfileRecord(
        seconds=seconds,
        pixels=plan.pixels,
        pixels_per_second=round(plan.pixels / spent.seconds, 1) if spent.seconds else 0.0,
        bytes_read=spent.bytes_read,
        bytes_written=spent.bytes_written,
        bound=f"{PHASES[most]} took {percent(seconds[most] / (sum(seconds.values()) or 1.0))} of the time",
    )


def _months(plan: Plan) -> tuple[str, ...]:
    return tuple(f"{year}-{month:02d}" for year, month in plan.period.months)


def _period_words(plan: Plan) -> str:
    if plan.period.start.month == 1:
        return str(plan.period.start.year)
    (y0, m0), (y1, m1) = plan.period.months[0], plan.period.months[-1]
    return f"{y0}-{m0:02d} to {y1}-{m1:02d}"


def _versions() -> dict[str, str]:
    names = ("timesenmap", "torch", "xarray", "dask", "zarr", "rasterio", "stackstac", "pystac", "numpy")
    return {name: version(name) for name in names} | {"GDAL": rasterio.__gdal_version__}


def _scene(scene: Scene) -> SceneRecord:
    properties = scene.item.properties
    baseline = properties.get("s2:processing_baseline") or properties.get("processing:version")
    return SceneRecord(
        id=scene.id,
        datetime=scene.datetime,
        baseline=None if baseline is None else str(baseline),
        radiometry={
            band: f"scale {scaling.scale:g} offset {scaling.offset:g}: {scaling.rule}"
            for band, scaling in ((band, scene.scaling[band]) for band in BANDS)
        },
    )


def _map(plan: Plan, prompts: PromptSet, workspace: Workspace) -> MapRecord:
    totals = workspace.ledger.totals(LABELS.stage(prompts.name))
    pixels, confidence = totals["pixels"], totals["confidence_sum"]
    files: dict[str, str] = {}
    for kind in plan.answer_kinds:
        files |= {array: plan.map_file(name) for array, name in kind.map_names(prompts.name).items()}
    margins = workspace.ledger.totals(MARGINS.stage(prompts.name))["margin"] if "margin" in files else None

    def counted(cls: LegendClass) -> ClassRecord:
        count = pixels[cls.code]
        mean = round(confidence[cls.code] / count, 1) if count else None
        return ClassRecord(code=cls.code, name=cls.name, colour=cls.colour, pixels=count, mean_confidence=mean)

    below = plan.unknown_below(prompts)
    return MapRecord(
        prompt_set=prompts.name,
        title=prompts.title,
        prompts_sha256=prompts.sha256,
        class_map=files[CLASS],
        confidence_map=files["confidence"],
        probability_map=files.get("probability"),
        margin_map=files.get("margin"),
        classes=tuple(counted(cls) for cls in prompts.classes),
        unknown=counted(UNKNOWN) if below else None,
        unknown_below=below,
        no_data_pixels=pixels[0],
        confidence_histogram=tuple(totals["confidence"]),
        margin_histogram=None if margins is None else tuple(margins),
        checksum=sha256_of(Path(workspace.out) / files[CLASS]),
    )


def _sheets(plan: Plan, workspace: Workspace) -> dict[str, tuple[SheetRecord, ...]]:
    def recorded(name: str, sheet: Tile) -> SheetRecord:
        file, window = sheet_file(name, sheet), sheet.geobox(plan.grid)
        _, checksum = workspace.ledger.file_signature(file) or ("", sha256_of(workspace.out / file))
        return SheetRecord(
            key=sheet.key, file=file, sha256=checksum, shape=sheet.shape, transform=tuple(window.affine)[:6]
        )

    if not plan.sheets:
        return {}
    return {plan.map_file(name): tuple(recorded(name, sheet) for sheet in plan.sheets) for name in plan.map_names}


def _warnings(
    observations: ObservationRecord, pixels: int, missing_passes: str, maps: Sequence[MapRecord]
) -> list[str]:
    """Say what a reader of the maps should know before trusting them."""
    warnings = []
    histogram = observations.clear_months_histogram
    unseen, few = histogram[0], sum(histogram[1:_FEW_MONTHS])
    if unseen:
        warnings.append(f"{unseen:,} of {pixels:,} pixels have no clear observation in any month: no data in the maps")
    if few:
        warnings.append(f"{few:,} of {pixels:,} pixels were seen in fewer than {_FEW_MONTHS} months")
    months = list(
        zip(observations.months, observations.scenes_by_month, observations.clear_share_by_month, strict=True)
    )
    empty = [month for month, scenes, _ in months if not scenes]
    cloudy = [month for month, scenes, share in months if scenes and not share]
    if empty:
        warnings.append(f"no scene in {', '.join(empty)}: masked, not filled")
    if cloudy:
        warnings.append(f"no clear observation anywhere in {', '.join(cloudy)}: masked, not filled")
    if missing_passes:
        warnings.append(f"passes expected from the scenes' own rhythm are not among them: {missing_passes}")
    warnings += [
        f"{made.title}: nothing can be unknown {unknown_rule(made)}, the best of {len(made.classes)} classes has more"
        for made in maps
        if 0 < made.unknown_below <= 1 / len(made.classes)
    ]
    return warnings
