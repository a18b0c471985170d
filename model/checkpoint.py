"""One encoder, one file: ``.safetensors`` whose metadata holds the whole configuration.

The header's ``__metadata__`` has one key, ``timesenmap``: the EncoderConfig as JSON. The tensors are the
state dict of :class:`~timesenmap.model.architecture.TimeSenCLIP` in float32. Format of the container:
https://github.com/huggingface/safetensors (8 bytes little-endian header length, JSON header, data).
"""

import hashlib
import json
import os
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors_torch

from timesenmap.model.architecture import TimeSenCLIP
from timesenmap.model.config import parse_config
from timesenmap.model.errors import ModelError

if TYPE_CHECKING:
    from timesenmap.model.encoder import Encoder

METADATA_KEY: Final = "timesenmap"
SUFFIX: Final = ".safetensors"
_PICKLES: Final = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_MAX_HEADER: Final = 100_000_000  # the container's own limit


def serialise(module: TimeSenCLIP) -> bytes:
    """Return the checkpoint file of ``module``: the same bytes for the same weights and configuration."""
    tensors = {
        name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in module.state_dict().items()
    }
    # One metadata key only: the container's writer does not fix an order among several.
    return safetensors_torch.save(tensors, {METADATA_KEY: module.config.model_dump_json()})


def save_encoder(encoder: "Encoder | TimeSenCLIP", path: str | os.PathLike[str]) -> str:
    """Write an encoder atomically (the old file stays whole until the new one is) and return its SHA-256."""
    module = encoder if isinstance(encoder, TimeSenCLIP) else encoder.module
    target = Path(path)
    if target.suffix != SUFFIX:
        raise ModelError(f"'{target}': an encoder is written as {SUFFIX}; give the file that ending")
    target.parent.mkdir(parents=True, exist_ok=True)
    content = serialise(module)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o644)  # mkstemp's 0600 would hide shared weights from colleagues
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return hashlib.sha256(content).hexdigest()


def shipped_encoders() -> tuple[str, ...]:
    """Names of the encoders that come with the package."""
    folder = resources.files("timesenmap.model.weights")
    return tuple(sorted(f.name.removesuffix(SUFFIX) for f in folder.iterdir() if f.name.endswith(SUFFIX)))


def _read_bytes(name_or_path: str) -> tuple[bytes, str]:
    """Content and description of a shipped encoder (a bare name) or of a file."""
    shipped, path = shipped_encoders(), Path(name_or_path)
    if name_or_path in shipped:  # whatever lies in the working folder; ./starter is the file
        resource = resources.files("timesenmap.model.weights") / f"{name_or_path}{SUFFIX}"
        return resource.read_bytes(), f"shipped encoder '{name_or_path}'"
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "not found"
        known = f"or one of the shipped encoders: {', '.join(shipped)}" if shipped else "none is shipped"
        raise ModelError(f"encoder '{path}' {kind}: give a {SUFFIX} file of train-encoder, {known}")
    try:
        return path.read_bytes(), f"encoder '{path}'"
    except OSError as error:
        raise ModelError(f"encoder '{path}' cannot be read: {error.strerror}") from error


def _header(content: bytes, source: str) -> dict[str, Any]:
    """JSON header of a safetensors file; ModelError where ``content`` is something else."""
    if content.startswith(_PICKLES):
        raise ModelError(
            f"{source} is a PyTorch checkpoint (pickle), which may run code when loaded: "
            f"convert it once with import-checkpoint THEIR.ckpt OUT{SUFFIX} --band-order ..."
        )
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > _MAX_HEADER or content[8:9] != b"{":
        raise ModelError(f"{source} is no {SUFFIX} file: give one written by train-encoder or import-checkpoint")
    if 8 + length > len(content):
        raise ModelError(f"{source} is cut short ({len(content):,} bytes): copy or download it again")
    try:
        header = json.loads(content[8 : 8 + length])
    except ValueError:
        raise ModelError(f"{source} has a damaged header: copy or download it again") from None
    if not isinstance(header, dict):
        raise ModelError(f"{source} has a damaged header: copy or download it again")
    return header


def _check_tensors(found: dict[str, torch.Tensor], module: TimeSenCLIP, source: str) -> None:
    expected = module.state_dict()
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or extra:
        raise ModelError(
            f"{source} does not hold the weights its metadata describes ({len(missing)} missing, {len(extra)} "
            f"unknown, such as {(missing + extra)[0]}): export it again"
        )
    for name, tensor in expected.items():
        given = found[name]
        if given.shape != tensor.shape or given.dtype != tensor.dtype:
            raise ModelError(
                f"{source}: {name} is {given.dtype} {tuple(given.shape)}, its metadata asks for "
                f"{tensor.dtype} {tuple(tensor.shape)}; export it again"
            )
        if not torch.isfinite(given).all():
            raise ModelError(f"{source}: {name} holds NaN or infinity: the training diverged or the file is damaged")


def read_module(name_or_path: str | os.PathLike[str]) -> tuple[TimeSenCLIP, str]:
    """Read a checkpoint: the module in float32 on the CPU in ``eval()``, and the file's SHA-256.

    Raises
    ------
    ModelError
        Missing or unreadable file, unknown shipped name, another format (pickles are never opened),
        a foreign or newer description, tensors that do not fit it.
    """
    content, source = _read_bytes(os.fspath(name_or_path))
    metadata = _header(content, source).get("__metadata__") or {}
    if METADATA_KEY not in metadata:
        raise ModelError(
            f"{source} is a {SUFFIX} file of another program (no '{METADATA_KEY}' metadata): give one written by "
            "train-encoder, or convert the authors' Lightning checkpoint with import-checkpoint"
        )
    try:
        described = json.loads(metadata[METADATA_KEY])
    except ValueError:
        described = None
    if not isinstance(described, dict):
        raise ModelError(f"{source}: its '{METADATA_KEY}' metadata is not a JSON object; export it again")
    if described.get("format") != 1:
        raise ModelError(
            f"{source} has format {described.get('format')!r}, this version reads format 1: upgrade timesenmap"
        )
    config = parse_config(described, source=f"metadata of {source}")
    try:
        tensors = safetensors_torch.load(content)
    except SafetensorError as error:
        raise ModelError(f"{source} is damaged or cut short ({error}): copy or download it again") from None
    with torch.device("meta"):
        module = TimeSenCLIP(config)
    _check_tensors(tensors, module, source)
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, then replaced: nobody's seed should feel it
        module = TimeSenCLIP(config)
    module.load_state_dict(tensors)
    return module.eval(), hashlib.sha256(content).hexdigest()
