"""What a run is about to do, put into its ledger for those who watch it."""

from timesenmap.pipeline.announced import AnnouncedStage, Announcement
from timesenmap.workflows.maps import file_signatures
from timesenmap.workflows.plan import Plan


def announcement_of(plan: Plan) -> Announcement:
    """Say which stages, tiles and files a plan goes through, in order."""
    labels = {
        kind.stage(prompts.name): plan.answer_signature(kind, prompts)
        for kind in plan.answer_kinds
        for prompts in plan.prompt_sets
    }
    passes = [{"cube": plan.cube_signature}, labels]
    if plan.job.keep_embeddings:
        passes.insert(1, {"embeddings": plan.embeddings_signature})
    return Announcement(
        area=plan.aoi.name,
        period=f"{plan.period.labels[0]} to {plan.period.labels[-1]}",
        prompts=tuple(prompts.name for prompts in plan.prompt_sets),
        shape=plan.grid.shape.yx,
        stages=tuple(
            AnnouncedStage(name, valid, len(plan.tiles), plan.pixels, together=len(one))
            for one in passes
            for name, valid in one.items()
        ),
        files=file_signatures(plan),
    )
