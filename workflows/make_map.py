"""make-map: from an area, a year and words to maps.

The whole pipeline reads top to bottom in :func:`make_map`: everything is checked before anything is written; then
the cube, the labels and the maps are made, each tile once, and described.
"""

import datetime as dt
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from timesenmap.catalogs import find_scenes
from timesenmap.model import load_encoder
from timesenmap.model.prompts import load_prompt_set
from timesenmap.pipeline.announced import announced
from timesenmap.pipeline.answer_kinds import create_answer_store
from timesenmap.pipeline.aoi import read_aoi
from timesenmap.pipeline.cog import limit_block_cache
from timesenmap.pipeline.cube import create_cube, fits_cube
from timesenmap.pipeline.describe import describe_run
from timesenmap.pipeline.donors import Donor
from timesenmap.pipeline.encode import EncoderRef, check_encoder
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.figures import months_made
from timesenmap.pipeline.grid import grid_for, tiles
from timesenmap.pipeline.label import CubeWindow, create_embedding_store
from timesenmap.pipeline.maskers import classes_set_aside, load_masker
from timesenmap.pipeline.period import Period
from timesenmap.pipeline.question import Question
from timesenmap.pipeline.record import RunRecord
from timesenmap.pipeline.stores import Store, check_store
from timesenmap.pipeline.tiling import Stage, TileRun
from timesenmap.pipeline.work import Answer, CompositeWork, EmbedWork, LabelWork
from timesenmap.pipeline.workspace import Workspace, check_folder, open_workspace, require_failed
from timesenmap.workflows.account import Account
from timesenmap.workflows.announce import announcement_of
from timesenmap.workflows.cluster import open_cluster
from timesenmap.workflows.cluster_spec import read_cluster
from timesenmap.workflows.job import Job
from timesenmap.workflows.maps import maps_of, write_map
from timesenmap.workflows.plan import Plan
from timesenmap.workflows.progress import Stages
from timesenmap.workflows.retention import tidy
from timesenmap.workflows.reuse import find_donors, months_of
from timesenmap.workflows.runs import Runs
from timesenmap.workflows.summary import record_of

log = logging.getLogger("timesenmap.make_map")


def make_map(
    job: Job, *, account: Account | None = None, retry_failed: bool = False, today: dt.date | None = None
) -> RunRecord:
    """Make the maps of a job, or bring its output folder up to date.

    Parameters
    ----------
    job : what to make
    account : shows progress and keeps what the run comes to know; log lines by default
    retry_failed : of the tiles that are not done, do only those that failed in an earlier run; maps are written where
        that completes them
    today : day (UTC) that decides which months are the latest; by default the clock does

    Returns
    -------
    The record of the run, as written to ``run.json``.

    Raises
    ------
    MapError, CatalogError, ModelError
        bad input; nothing was written.
    LockedError
        another run of the job is at work; nothing was done.
    SceneReadError, TilesFailedError
        something could not be read or computed; what was finished is kept, and the same job goes on from there.
    """
    account = account or Account(Stages(bars=False))
    stages, asked, runs = account.stages, job, Runs(job.out)
    limit_block_cache()
    account.job = job = asked.settled(today)
    runs.require_idle(job.out)
    if job.work is not None:
        check_store(Store.at(job.work))
    account.plan = plan = prepare(job, stages)
    plan.require_credentials()
    if retry_failed:
        require_failed(job.out)
    donors = find_donors(plan.period, runs, job.out, named=asked.reuse)
    with runs.held():
        with open_workspace(job.out, plan.place, plan.stores) as workspace, open_cluster(job.cluster) as cluster:
            account.workspace = workspace
            cluster.require_stores(workspace.stores)
            plan = replace(plan, encoder=cluster.encoder(plan.encoder))
            with announced(workspace.ledger, announcement_of(plan)):
                workspace.write_text("job.yaml", job.to_yaml())
                plan.search.save(workspace.items)
                tile_run = TileRun(
                    workspace.ledger,
                    plan.tiles,
                    job.tile_size,
                    executor=cluster.executor,
                    retry_failed=retry_failed,
                    on_failure=stages.failed,
                )
                build_cube(plan, workspace, stages, tile_run, donors)
                if job.keep_embeddings:
                    embed_pixels(plan, workspace, stages, tile_run)
                label_pixels(plan, workspace, stages, tile_run)
                tile_run.require_all()
                write_maps(plan, workspace, stages)
                record = record_of(plan, workspace, stages.seconds)
                describe_run(workspace.out, record)
                record.write(workspace.out / "run.json")
                account.record = record
        account.warnings += tidy(runs, job.out, keep_runs=asked.keep_runs, keep_work=asked.keep_work)
    return record


def prepare(job: Job, stages: Stages) -> Plan:
    """Check everything a job names, find its scenes, and plan its tiles; nothing is written."""
    with stages.stage("prepare", 1, "job") as advance:
        read_cluster(job.cluster)
        masker = load_masker(job.masker)
        set_aside = classes_set_aside(masker, job.set_aside)
        aoi = read_aoi(job.aoi, crs=job.aoi_crs)
        for note in aoi.notes:
            log.warning("%s: %s", aoi.name, note)
        period = Period.of(year=job.year, start=job.start)
        grid = grid_for(aoi, resolution=job.resolution, crs=job.crs)
        prompt_sets = tuple(load_prompt_set(name) for name in job.prompts)
        names = [prompts.name for prompts in prompt_sets]
        if len(set(names)) < len(names):
            raise MapError(f"--prompts {' '.join(job.prompts)}: two prompt sets have the same name; name each one once")
        encoder = load_encoder(job.encoder)
        check_encoder(encoder)
        search = find_scenes(
            job.catalog,
            area=aoi.geometry,
            start=period.start,
            end=period.end,
            collection=job.collection,
            max_cloud_cover=job.max_cloud_cover,
            skip_bad_items=job.skip_bad_items,
            items=job.items,
        )
        plan = Plan(
            job=job,
            aoi=aoi,
            period=period,
            grid=grid,
            prompt_sets=prompt_sets,
            encoder=EncoderRef.of(job.encoder, encoder),
            config=encoder.config,
            tiles=tuple(tiles(grid, job.tile_size, aoi=aoi)),
            search=search,
            masker=masker,
            set_aside=set_aside,
        )
        plan.require_scenes()
        plan.require_names()
        check_folder(job.out, plan.place, plan.stores)
        advance(1)
    with stages.stage("prompts", len(prompt_sets), "set") as advance:
        questions = []
        for prompts in prompt_sets:
            questions.append(Question.of(prompts, encoder, unknown_below=plan.unknown_below(prompts)))
            advance(1)
    return replace(plan, questions=tuple(questions))


def build_cube(
    plan: Plan, workspace: Workspace, stages: Stages, tile_run: TileRun, donors: Sequence[Donor] = ()
) -> None:
    """Composite the scenes into the cube: twelve monthly medians of ten bands, tile by tile.

    Months that this cube, from before its inputs changed, or one of the donors has just so are taken from there.
    """
    store, tile_size = workspace.cube, plan.job.tile_size
    work = CompositeWork(
        store,
        plan.search.scenes,
        plan.grid,
        plan.aoi,
        plan.period,
        masker=plan.masker,
        set_aside=plan.set_aside,
        cloud_dilation=plan.job.cloud_dilation,
        gdal=plan.search.profile.gdal,
        signatures=plan.month_signatures,
        donors=tuple(donors),
    )
    create = partial(create_cube, store, plan.grid, plan.period, tile_size=tile_size)
    stays = partial(fits_cube, store, plan.grid, tile_size=tile_size)
    with stages.stage("cube", plan.pixels, "px") as advance:
        tile_run.run([Stage("cube", plan.cube_signature, store, create, stays)], work=work, advance=advance)
    log.info("cube: %s", months_made(months_of(workspace.ledger, plan.period)))


def embed_pixels(plan: Plan, workspace: Workspace, stages: Stages, tile_run: TileRun) -> None:
    """Encode every pixel of the cube and keep the embeddings."""
    store, dim = workspace.embeddings, plan.config.embedding
    cube = CubeWindow.of(workspace.cube, plan.period, plan.config)
    create = partial(create_embedding_store, store, plan.grid.shape.yx, dim=dim, tile_size=plan.job.tile_size)
    embeddings = Stage("embeddings", plan.embeddings_signature, store, create)
    work = EmbedWork(store, cube, plan.encoder, dim)
    with stages.stage("embeddings", plan.pixels, "px") as advance:
        tile_run.run([embeddings], work=work, advance=advance, reach=cube.tiles_around)


def label_pixels(plan: Plan, workspace: Workspace, stages: Stages, tile_run: TileRun) -> None:
    """Give every pixel, for each prompt set, what is asked; a pixel is encoded once for all.

    That is class and confidence; the probability of every class and the margin of the best, where the job says so.
    """
    cube = CubeWindow.of(workspace.cube, plan.period, plan.config)
    embeddings = workspace.embeddings if plan.job.keep_embeddings else None
    shape, tile_size = plan.grid.shape.yx, plan.job.tile_size
    answers: dict[str, Answer] = {}
    todo: list[Stage] = []
    for prompts, question in zip(plan.prompt_sets, plan.questions, strict=True):
        for kind in plan.answer_kinds:
            stage, store = kind.stage(prompts.name), workspace.answers(kind, prompts.name)
            classes = len(prompts.classes)
            create = partial(create_answer_store, kind, store, shape, classes=classes, tile_size=tile_size)
            todo.append(Stage(stage, plan.answer_signature(kind, prompts), store, create))
            answers[stage] = Answer(question.answered_with(kind), store)
    work = LabelWork(answers, cube, plan.encoder, embeddings, plan.grid, plan.aoi)
    with stages.stage("labels", plan.pixels, "px") as advance:
        tile_run.run(todo, work=work, advance=advance, reach=0 if embeddings else cube.tiles_around)


def write_maps(plan: Plan, workspace: Workspace, stages: Stages) -> None:
    """Write the maps as cloud-optimised GeoTIFFs with names, colours and styles; large ones as sheets and a VRT."""
    with stages.stage("maps", len(plan.map_files), "file") as advance:
        for one in maps_of(plan, workspace):
            write_map(one, plan, workspace, advance)
