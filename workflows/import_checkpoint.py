"""import-checkpoint: the authors' Lightning checkpoint as an encoder of this project."""

from pathlib import Path

import click

from timesenmap.workflows.commands import with_exit_codes


@click.command(name="import-checkpoint")
@click.argument("theirs", metavar="THEIR.ckpt")
@click.argument("out", metavar="OUT.safetensors")
@click.option(
    "--band-order",
    required=True,
    help="Bands in the order of training, such as B2,B3,B4,B5,B6,B7,B8,B8A,B11,B12. The checkpoint does not say, "
    "and the authors' default swaps B2 and B4: look at the --channels it was trained with.",
)
@click.option("--months", default=12, show_default=True, type=int, help="Frames a year in training.")
@click.option("--patch", default=1, show_default=True, type=int, help="Pixels a side in training: 1, 5 or 9.")
@click.option(
    "--clip",
    default="ViT-B-32-quickgelu/openai",
    show_default=True,
    help="open_clip model and weights it was trained with, or local-dir:PATH.",
)
@click.option("--heads", default=8, show_default=True, type=int, help="Attention heads.")
@click.option("--name", default=None, help="Name in maps and reports.  [default: the file's name]")
@click.option("--licence", default="not stated in the checkpoint", show_default=True, help="Licence of the weights.")
@with_exit_codes
def main(
    theirs: str,
    out: str,
    *,
    band_order: str,
    months: int,
    patch: int,
    clip: str,
    heads: int,
    name: str | None,
    licence: str,
) -> None:
    """Turn one of the TimeSenCLIP authors' checkpoints into an encoder for make-map.

    Weights are read without running code from the file. make-map --encoder OUT.safetensors then maps with them.
    """
    from timesenmap.model.checkpoint import save_encoder  # noqa: PLC0415  (torch takes seconds; --help does not need it)
    from timesenmap.model.import_checkpoint import import_checkpoint  # noqa: PLC0415

    module = import_checkpoint(
        theirs,
        band_order=band_order,
        months=months,
        patch=patch,
        clip=clip,
        heads=heads,
        name=name,
        licence=licence,
    )
    sha256 = save_encoder(module, Path(out))
    config = module.config
    click.echo(
        f"{out}: {config.name}, {config.depth} layers of width {config.width}, {config.months} months, "
        f"patch {config.patch}, bands {' '.join(config.bands)}, text tower {config.text_tower}; SHA-256 {sha256}"
    )
