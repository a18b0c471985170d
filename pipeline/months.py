"""What each month of a cube is made of, as a signature: months that have the same hold the same pixels."""

from collections.abc import Collection, Mapping, Sequence

from odc.geo.geobox import GeoBox

from timesenmap.catalogs.bands import BANDS, SCL
from timesenmap.catalogs.scenes import Scene
from timesenmap.pipeline.observe import scenes_by_month
from timesenmap.pipeline.passes import passes_of, precedence
from timesenmap.pipeline.period import Period
from timesenmap.pipeline.workspace import signature

# Raised whenever the same scenes would give another cube.
_CUBE_FORMAT = 2


def month_signatures(
    scenes: Sequence[Scene],
    grid: GeoBox,
    period: Period,
    *,
    masker: Mapping[str, str],
    set_aside: Collection[int],
    cloud_dilation: float,
) -> tuple[str, ...]:
    """Hash all that the composite of each month depends on, whatever the other months of the period are.

    That is: the grid, the month's scenes with their files and scaling, in the order in which they have precedence,
    which of them are of one pass, and how clouds are told. Passes are told apart from all scenes, as `composite_tile`
    does: one that crosses midnight at the end of a month may join scenes of the next.

    Parameters
    ----------
    scenes, grid, period, set_aside, cloud_dilation
        As for `composite_tile`.
    masker
        Identity of the masker.

    Returns
    -------
    tuple of str
        Twelve sha256, hexadecimal.
    """
    passes = {id(scene): number for scene, number in zip(scenes, passes_of(scenes), strict=True)}
    signatures = []
    for label, month in zip(period.labels, scenes_by_month(scenes, period), strict=True):
        ordered = sorted(month, key=precedence)
        numbers = [passes[id(scene)] for scene in ordered]
        signatures.append(
            signature(
                format=_CUBE_FORMAT,
                month=label,
                crs=str(grid.crs),
                transform=list(grid.affine)[:6],
                shape=list(grid.shape.yx),
                scenes=[_files(scene) for scene in ordered],
                passes=[numbers.index(number) for number in numbers],
                masker=masker,
                set_aside=sorted(set_aside),
                cloud_dilation=cloud_dilation,
            )
        )
    return tuple(signatures)


def _files(scene: Scene) -> dict[str, object]:
    return {
        "id": scene.id,
        "assets": [scene.href(band) for band in (*BANDS, SCL)],
        "scaling": [(scene.scaling[band].scale, scene.scaling[band].offset) for band in BANDS],
    }
