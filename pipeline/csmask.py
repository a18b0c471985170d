"""Clouds and cloud shadows told by the network of ukis-csmask (DLR), the extra `csmask`.

Wieland, Li and Martinis (2019), https://doi.org/10.1016/j.rse.2019.05.022, and Wieland, Fichtner and Martinis (2022),
https://doi.org/10.5194/isprs-archives-XLIII-B3-2022-217-2022. Of the package (Apache-2.0) only the network for Level-2A
with six bands and its statistics are used: its own way of cutting an image into blocks depends on where the image
begins.
"""

import hashlib
import importlib
import json
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.mask_blocks import CLEAR, BlockMasker

# The names of the network's bands, and ours. Its authors trained it with the near infrared of B08.
_BANDS = {"blue": "B02", "green": "B03", "red": "B04", "nir": "B08", "swir16": "B11", "swir22": "B12"}

_MODEL = "model_6b_l2a"

# Background, clouds, cloud shadows, in the codes of SCL; thin clouds are among the clouds.
_SCENE_CLASSES = np.array([CLEAR, 9, 3], np.uint8)


def csmask() -> BlockMasker:
    """Make the masker: reads 40 MB of weights and prepares the network, about 1.5 s.

    30 m, as its authors recommend. Every run of the network is of one block by one thread on the processor, so that a
    block gives the same bytes however many there are.

    Raises
    ------
    MapError
        The extra is not installed, or another version of the package holds no such network.
    """
    try:
        runtime = importlib.import_module("onnxruntime")
        library = version("ukis-csmask")
        folder = files("ukis_csmask")
    except (ImportError, PackageNotFoundError) as error:
        raise MapError(
            f"--masker csmask: its packages are not installed ({error}); pip install 'timesenmap[csmask]', or take "
            "--masker scl"
        ) from error
    try:
        weights = (folder / f"{_MODEL}.onnx").read_bytes()
        fields = json.loads((folder / f"{_MODEL}.json").read_text(encoding="utf-8"))
        statistics = fields["data"]["dataset_statistics"]
        bands = tuple(_BANDS[name] for name in statistics["band_names"])
        mean, deviation = (np.array(numbers, np.float32)[:, None, None] for numbers in statistics["img"])
        height, width = fields["data"]["target_size"]
    except (OSError, ValueError, KeyError) as error:
        raise MapError(
            f"--masker csmask: ukis-csmask {library} is not the version this program knows ({error!r}); "
            "pip install 'ukis-csmask==1.0.0'"
        ) from error
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = runtime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0].name

    def classify(reflectance: NDArray[np.float32]) -> NDArray[np.uint8]:
        seen = np.nan_to_num(reflectance, nan=0.0)  # black where there is no data, as the package does
        logits = session.run(None, {entry: ((seen - mean) / deviation)[None]})[0][0]
        classes: NDArray[np.uint8] = _SCENE_CLASSES[logits.argmax(axis=0)]
        return classes

    assert height == width
    return BlockMasker(
        name="csmask",
        bands=bands,
        classify=classify,
        tells=frozenset({0, 3, 9}),
        about={
            "library": f"ukis-csmask {library}",
            "runtime": f"onnxruntime {runtime.__version__}",
            "weights": f"{_MODEL} sha256:{hashlib.sha256(weights).hexdigest()}",
        },
        block=height,
    )
