"""The command ``make-map``: its flags, and what it prints; what it does is in :mod:`timesenmap.workflows.make_map`."""

import datetime as dt
from pathlib import Path

import click

from timesenmap.workflows import demo
from timesenmap.workflows.account import kept
from timesenmap.workflows.commands import with_exit_codes
from timesenmap.workflows.forecast import forecast
from timesenmap.workflows.job import Job, resolve_job
from timesenmap.workflows.logs import set_up_logging
from timesenmap.workflows.make_map import make_map, prepare
from timesenmap.workflows.metrics import metrics_in
from timesenmap.workflows.options import given, options_of, refuse_flags
from timesenmap.workflows.progress import Stages
from timesenmap.workflows.status import status
from timesenmap.workflows.summary import report_lines


@click.group(
    invoke_without_command=True,
    subcommand_metavar="[status OUT]",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@options_of(Job, repeated=("prompts", "reuse"))
@click.option("--job", "job_file", type=click.Path(path_type=Path), help="YAML file of the same fields; flags win")
@click.option("--demo", "demonstration", is_flag=True, help="generate a place with a year of scenes, and map it")
@click.option("--dry-run", is_flag=True, help="say what would be done, its time and cost; write nothing")
@click.option("--retry-failed", is_flag=True, help="of what is left to do, do only the tiles that failed before")
@click.option("--show-config", is_flag=True, help="print the resolved job as YAML; do nothing")
@click.option(
    "--metrics",
    metavar="FILE.prom",
    type=click.Path(path_type=Path, dir_okay=False),
    help="keep metrics for Prometheus in this file, for node_exporter's textfile collector",
)
@click.option(
    "--today", type=click.DateTime(["%Y-%m-%d"]), help="day (UTC) that decides what --start latest is  [default: today]"
)
@click.option("--summary", type=click.Path(path_type=Path), help="write how the run ended to this file, as JSON")
@click.option("-v", "--verbose", is_flag=True, help="log more")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="log lines for people, or a JSON object a line for programs  [default: text]",
)
@click.version_option(package_name="timesenmap", prog_name="make-map")
@click.pass_context
@with_exit_codes
def main(
    context: click.Context,
    *,
    job_file: Path | None,
    demonstration: bool,
    dry_run: bool,
    retry_failed: bool,
    show_config: bool,
    metrics: Path | None,
    today: dt.datetime | None,
    summary: Path | None,
    verbose: bool,
    log_format: str,
    **options: object,
) -> None:
    """Make maps of an area from a year of Sentinel-2, by asking for the classes in words.

    \b
    make-map --aoi fields.geojson --prompts crops --year 2024 --out out/
    make-map --aoi 3.0,50.8,3.1,50.9 --prompts land-cover --prompts mine.yaml --year 2024 --out out/
    make-map --job out/job.yaml --items out/work/items.parquet --out again/
    make-map --demo --out demo/
    make-map status out/
    make-map --job nightly.yaml --start latest --out 'maps/{start}_{end}' --summary nightly.json

    Exit codes: 0 done, 1 failed, 2 bad input, 3 another run of the job is at work. A second run over the same --out
    redoes only what its inputs changed, and does what the first left undone.
    """  # noqa: D301 - click wants the control character \b, not the two characters
    if context.invoked_subcommand is not None:
        refuse_flags(context)
        return
    set_up_logging(verbose=verbose, json_lines=log_format == "json")
    stages = Stages(bars=False if log_format == "json" else None)
    with kept(summary, job_file, stages) as account:
        flags = given(options)
        if demonstration:
            flags = demo.demo_flags(flags)
        job = resolve_job(flags, job_file)
        day = None if today is None else today.date()
        if show_config:
            click.echo(job.to_yaml(), nl=False)
            return
        if dry_run:
            account.job = job.settled(day)
            account.plan = prepare(account.job, account.stages)
            for what, how_much in forecast(account.plan):
                click.echo(f"{what:<24}{how_much}")
            return
        name = None if job_file is None else job_file.stem
        with metrics_in(metrics, job.settled(day).out, name=name):
            record = make_map(job, account=account, retry_failed=retry_failed, today=day)
        out = Path(str(record.job["out"]))
        for line in report_lines(record, out):
            click.echo(line)
        if demonstration:
            for line in demo.agreement(out, record):
                click.echo(line)


main.add_command(status)
