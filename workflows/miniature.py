"""The paper in small: simulate places, train a CLIP and encoders on the CPU, and print what the paper reports.

``make miniature``, or ``python -m timesenmap.workflows.miniature --out FOLDER``.
"""

import logging
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from timesenmap.model.sheets import Sheet, percent
from timesenmap.workflows.commands import with_exit_codes
from timesenmap.workflows.evaluate_places import ablation_sheet
from timesenmap.workflows.logs import set_up_logging
from timesenmap.workflows.progress import Stages
from timesenmap.workflows.tables import deliver, recall_sheet

if TYPE_CHECKING:
    from timesenmap.model.miniature import MiniatureReport


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--out", type=click.Path(path_type=Path), help="folder to keep everything in; default: a temporary one")
@click.option("--size", type=click.Choice(["full", "quick"]), default="full", show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="of the world and the training")
@click.option("--json", "as_json", is_flag=True, help="print JSON, and nothing else, on standard output")
@with_exit_codes
def main(*, out: Path | None, size: str, seed: int, as_json: bool) -> None:
    """Run the whole method on simulated places: full takes minutes on two cores, quick less than one.

    Exit codes: 0 done, 2 bad input, 1 failed.
    """
    set_up_logging()
    from timesenmap.model.miniature import run_miniature  # noqa: PLC0415 - torch takes seconds, --help needs none
    from timesenmap.model.training import import_fit  # noqa: PLC0415

    import_fit()  # Lightning sets its level when it is imported
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # advice and advertisements

    stages = Stages()
    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="miniature-")))
        report = run_miniature(folder, size=size, seed=seed, stage=stages.stage)
    note = f"{sum(stages.seconds.values()):.0f} s in all; intervals: 95 %, bootstrap over places"
    title = "The paper in small"
    deliver(report, sheets(report), title=title, stem="miniature", out=out, as_json=as_json, notes=[note])


def sheets(report: "MiniatureReport") -> list[Sheet]:
    """Tables of what was measured, in percent."""
    return [
        ablation_sheet(report.zero_shot, configured="mean of four photos, temporal masking"),
        Sheet(
            "The frozen CLIP on the held-out places' own photos, %",
            ["asked with", "accuracy"],
            [[name, percent(value)] for name, value in report.photos.items()],
        ),
        recall_sheet(report.retrieval),
    ]


if __name__ == "__main__":
    main()
