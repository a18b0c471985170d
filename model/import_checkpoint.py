"""The authors' Lightning checkpoints as encoders of this project.

Their state dict, after the prefix ``learner.TS_ViT.`` (later ``learner.ts_encoder.``), holds a linear spectral
embedding, temporal positions, a class token, a ``torch.nn.TransformerEncoder`` with its defaults (ReLU, post-norm)
and a head of LayerNorm and one Linear. It says neither which band is which (their command-line default swaps B2 and
B4) nor how many attention heads or which CLIP there were. Source: github.com/pallavijain-pj/TimeSenCLIP.
"""

import argparse
import hashlib
import os
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from timesenmap.model.architecture import TimeSenCLIP
from timesenmap.model.config import DEFAULT_BANDS, PAPER_LOW, PAPER_SPAN, parse_config
from timesenmap.model.errors import ModelError

PREFIXES: Final = ("learner.TS_ViT.", "learner.ts_encoder.")

_RENAMED: Final = {
    "spectral_embedding.1.": "embedding.",
    "time_pos_encoding": "positions",
    "class_token": "class_token",
    "transformer.layers.": "layers.",
    "mlp_head.": "head.",
}


def parse_band_order(text: str, *, count: int | None = None) -> tuple[str, ...]:
    """Bands of a list such as ``B4,B3,B2,...`` or ``B04 B03 B02 ...``, as this project writes them.

    Raises
    ------
    ModelError
        A band that Sentinel-2 does not have or the scaling is not known for, a band twice, not ``count`` bands.
    """
    bands = []
    for given in re.split(r"[\s,]+", text.strip()):
        number = re.fullmatch(r"B?0?(\d{1,2}|8A)", given.upper())
        band = f"B{number[1]:0>2}" if number else given
        if band not in DEFAULT_BANDS:
            raise ModelError(f"band '{given}' of the band order is unknown: choose from {', '.join(DEFAULT_BANDS)}")
        bands.append(band)
    twice = sorted({band for band in bands if bands.count(band) > 1})
    if twice:
        raise ModelError(f"the band order names {', '.join(twice)} more than once: {text}")
    if count is not None and len(bands) != count:
        raise ModelError(f"the band order names {len(bands)} bands, the checkpoint was trained with {count}")
    return tuple(bands)


def import_checkpoint(
    path: str | os.PathLike[str],
    *,
    band_order: str | Sequence[str],
    months: int = 12,
    patch: int = 1,
    clip: str = "ViT-B-32-quickgelu/openai",
    heads: int = 8,
    name: str | None = None,
    licence: str = "not stated in the checkpoint",
) -> TimeSenCLIP:
    """Read one of the authors' checkpoints.

    Parameters
    ----------
    path
        Lightning ``.ckpt``; only tensors and plain values are read from it, never code.
    band_order
        Bands in the order of training. The checkpoint does not say, and a wrong guess would go unnoticed.
    months, patch
        Frames a year and pixels a side of the training data; checked against the weights.
    clip
        open_clip model and pretrained tag, or ``local-dir:PATH``, of the CLIP it was trained with.
    heads
        Attention heads (theirs: 8); the weights are the same for any number.
    name, licence
        For the metadata; the name defaults to that of the file.

    Returns
    -------
    TimeSenCLIP
        In ``eval()``; its embeddings are their ``inference``, normalised: a single annual frame takes the first
        temporal position, four seasons the medians.
    """
    file = Path(path)
    state = _encoder_state(_load_state(file), file)
    features, frames = state["embedding.weight"].shape[1], state["positions"].shape[0]
    if features % patch**2:
        raise ModelError(
            f"'{file}' takes {features} values a month, not a multiple of patch {patch} x {patch}: give --patch"
        )
    bands = parse_band_order(
        band_order if isinstance(band_order, str) else " ".join(band_order), count=features // patch**2
    )
    if frames != months:
        raise ModelError(
            f"'{file}' was trained with {frames} frames a year, {months} asked for: give --months {frames}"
        )
    picks = [DEFAULT_BANDS.index(band) for band in bands]
    depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("layers."))
    config = parse_config(
        {
            "name": name or file.stem,
            "bands": bands,
            "low": [PAPER_LOW[i] for i in picks],
            "span": [PAPER_SPAN[i] for i in picks],
            "presence": False,
            "months": months,
            "annual_position": "first",
            "patch": patch,
            "width": state["embedding.weight"].shape[0],
            "depth": depth,
            "heads": heads,
            "feedforward": state["layers.0.linear1.weight"].shape[0],
            "activation": "relu",
            "head": "linear",
            "embedding": state["head.1.weight"].shape[0],
            "text_tower": f"open_clip:{clip}",
            "training_data": f"imported from {file.name}, SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()}",
            "licence": licence,
            "created_by": "timesenmap import-checkpoint",
        },
        source=f"'{file}'",
    )
    with torch.random.fork_rng(devices=[]):
        module = TimeSenCLIP(config)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        fault = " ".join(str(error).split())
        raise ModelError(f"'{file}' does not hold an encoder of the authors' shape: {fault}") from None
    return module.eval()


def _load_state(file: Path) -> Mapping[str, Any]:
    """State dict of a Lightning checkpoint (or a bare one), read without running code from it."""
    if not file.is_file():
        raise ModelError(f"checkpoint '{file}' not found: give the authors' .ckpt file")
    try:
        # Lightning keeps the command line, an argparse.Namespace, beside the weights; it only holds values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        blamed = re.search(r"GLOBAL (\S+)", str(error))
        what = f"holds {blamed[1]}, which could run code" if blamed else "is not a PyTorch checkpoint"
        raise ModelError(
            f"'{file}' {what}: where you trust it, save its weights alone with "
            "torch.save({'state_dict': checkpoint['state_dict']}, ...) and import that"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"'{file}' is not a whole PyTorch checkpoint ({str(error).splitlines()[0]}): copy it again"
        ) from None
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping):
        raise ModelError(f"'{file}' holds no state_dict: give the authors' Lightning .ckpt file")
    return state


def _encoder_state(state: Mapping[str, Any], file: Path) -> dict[str, Tensor]:
    """Their encoder's tensors under our names."""
    prefixes = [prefix for prefix in PREFIXES if any(str(key).startswith(prefix) for key in state)]
    if len(prefixes) != 1:
        found = "both" if prefixes else "neither"
        raise ModelError(f"'{file}' holds {found} of {' and '.join(PREFIXES)}: give one of the authors' checkpoints")
    ours: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if not key.startswith(prefixes[0]):
            continue  # the queue of negatives, the pooling of the photos, the frozen CLIP
        theirs = key.removeprefix(prefixes[0])
        start = next((start for start in _RENAMED if theirs.startswith(start)), None)
        if start is None:
            raise ModelError(f"'{file}' holds '{key}', which the authors' encoder does not have: nothing imported")
        ours[_RENAMED[start] + theirs.removeprefix(start)] = tensor.float()
    needed = ("embedding.weight", "positions", "class_token", "layers.0.linear1.weight", "head.1.weight")
    missing = [name for name in needed if name not in ours]
    if missing:
        raise ModelError(f"'{file}' lacks {', '.join(missing)} (our names): give one of the authors' checkpoints")
    ours["positions"] = ours["positions"].flatten(0, -2)  # (1, months, width)
    ours["class_token"] = ours["class_token"].flatten()  # (1, 1, width)
    return ours
