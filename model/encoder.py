"""The encoder as everyone but training uses it: reflectance in, unit vectors out, the same bits every time."""

import hashlib
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Final, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from timesenmap.model.architecture import Scaling, TimeSenCLIP
from timesenmap.model.checkpoint import read_module, serialise
from timesenmap.model.config import EncoderConfig, config_of_size
from timesenmap.model.errors import ModelError
from timesenmap.model.inference import FoldedNetwork
from timesenmap.model.streaming import Slot, new_slots, run_queued
from timesenmap.model.threads import run_batches

Precision = Literal["float32", "bfloat16"]

_FULL_YEARS: Final = {"mps": 768, "cuda": 2048}


def _batch_tokens(config: EncoderConfig, kind: str) -> int:
    """Tokens a batch on a kind of device: those of so many years of twelve months, each with its class token.

    On a CPU the activations should stay in a core's cache (size paper: 96 years are 8% faster than 192), but a batch
    should also take some milliseconds, or threads queue for Python's lock between its operations (size small: 192
    are 9% faster than 96).
    """
    return 13 * _FULL_YEARS.get(kind, 96 if config.width > 256 else 192)


def choose_device(device: str) -> str:
    """``auto`` -> cuda, mps or cpu, whichever is there first; any other name is checked and returned."""
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError:
        kind = ""
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(kind, False):
        there = ", ".join(name for name, ok in present.items() if ok)
        raise ModelError(f"device '{device}' is not on this machine: choose auto, {there}")
    return device


def has_native_bfloat16(device: str) -> bool:
    """Tell whether the device multiplies bfloat16 matrices in hardware."""
    kind = torch.device(device).type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind == "cpu":
        # Private, but the only question torch answers about this; absent on builds for other processors.
        asks = (
            getattr(torch.cpu, "_is_avx512_bf16_supported", None),
            getattr(torch.cpu, "_is_amx_tile_supported", None),
        )
        return any(ask() for ask in asks if ask is not None)
    return False


def choose_precision(precision: str, *, device: str) -> Precision:
    """``auto`` -> bfloat16 where the device has it natively, else float32.

    On a CPU with AVX512-BF16 it is 1.6 times (size small) and 2.1 times (size paper) as fast.
    """
    if precision == "auto":
        return "bfloat16" if has_native_bfloat16(device) else "float32"
    if precision not in ("float32", "bfloat16"):
        raise ModelError(f"precision '{precision}' is unknown: choose auto, float32 or bfloat16")
    return cast("Precision", precision)


class Encoder:
    """An encoder ready for use on one device.

    It works on a copy of the module's weights taken when it is made: after training the module further,
    make a new Encoder. ``embed`` may be called from several threads at once.

    Parameters
    ----------
    module
        The encoder's network.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    precision
        ``auto``, ``float32`` or ``bfloat16``: of the weights and products; scaling and the final
        normalisation are always float32.
    sha256
        Hash of the file it was read from; computed from the serialised module where not given.
    """

    def __init__(
        self,
        module: TimeSenCLIP,
        *,
        device: str = "auto",
        precision: str = "auto",
        sha256: str | None = None,
    ) -> None:
        self.module = module
        self.config: EncoderConfig = module.config
        self.device = choose_device(device)
        self.precision: Precision = choose_precision(precision, device=self.device)
        kind = torch.device(self.device).type
        self._on_cpu = kind == "cpu"
        self._tokens = _batch_tokens(self.config, kind)
        if sha256 is not None:
            self.sha256 = sha256
        # Scaling stays in float32: bfloat16 cannot tell the differences of reflectance that matter.
        self._observe = Scaling(self.config).to(self.device)
        dtype = torch.bfloat16 if self.precision == "bfloat16" else torch.float32
        self._network = FoldedNetwork(module, device=self.device, dtype=dtype, tokens=self._tokens)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the checkpoint file that holds this encoder."""
        return hashlib.sha256(serialise(self.module)).hexdigest()

    @property
    def name(self) -> str:
        """Name in the configuration."""
        return self.config.name

    @property
    def dim(self) -> int:
        """Length d of an embedding."""
        return self.config.embedding

    def __repr__(self) -> str:
        return f"Encoder({self.name!r}, dim={self.dim}, device={self.device!r}, precision={self.precision!r})"

    def embed(self, reflectance: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Embed years of reflectance.

        Parameters
        ----------
        reflectance
            (n, months, bands) or (n, months, bands, patch, patch), 0-1, NaN = missing. Months run from
            January to December; four seasons or one annual composite are taken as well. Bands in the order
            of ``config.bands``.

        Returns
        -------
        NDArray
            (n, d) float32 of unit length; all zero for a row without any observation. A row's bits depend
            on that row only: not on n, its place or its neighbours.

        Raises
        ------
        ModelError
            Another shape or data type, naming the expected months, bands in order and patch.
        """
        series = self._checked(reflectance)
        observed = np.isfinite(series)
        return self.embed_observed(lambda rows, places: series[rows[:, None], places], self.present(observed))

    def present(self, observed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Frames that count as observed: (..., T, bands, patch, patch) bool, True = has a value -> (..., T) bool."""
        return self._observe.present(torch.from_numpy(observed)).numpy()

    def embed_observed(
        self, take: Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.float32]], present: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Embed years that are fetched batch by batch, and only those frames that were observed.

        Parameters
        ----------
        take
            Gives for rows (B,) and places in the year (B, observed) float32 reflectance (B, observed, bands, patch,
            patch), NaN = missing. On a CPU it is called from several threads at once.
        present
            (n, T) bool: what ``present`` says of the n rows.

        Returns
        -------
        NDArray
            As of ``embed``.
        """
        out = np.zeros((len(present), self.dim), np.float32)

        def start(rows: NDArray[np.intp], slot: Slot) -> None:
            places = np.nonzero(present[rows])[1].reshape(len(rows), -1)  # (rows, observed)
            padding = ((0, self.batch(places.shape[1]) - len(rows)), (0, 0))
            reflectance = np.pad(take(rows, places), (*padding, (0, 0), (0, 0), (0, 0)))
            slot.download(
                self._embed_batch(
                    slot.upload("reflectance", reflectance),
                    slot.upload("places", np.pad(places, padding)),
                    frames=present.shape[1],
                )
            )

        def finish(rows: NDArray[np.intp], slot: Slot) -> None:
            out[rows] = slot.wait()[: len(rows)]

        def at_once(rows: NDArray[np.intp]) -> None:
            slot = Slot(self.device)
            start(rows, slot)
            finish(rows, slot)

        if self._on_cpu:
            run_batches(at_once, self._batches(present))
        else:
            run_queued(self._batches(present), new_slots(self.device), start=start, finish=finish)
        return out

    def batch(self, observed: int) -> int:
        """Years a batch, where each has this many observed frames.

        Years are computed with others of as many observed frames, in batches of one size for each number: so no work
        is done for what was not observed, and a year's bits depend on itself alone. A multiple of 32 leaves no ragged
        edge in vectors, whose last years would be computed by other instructions.
        """
        return self._tokens // (observed + 1) // 32 * 32

    def _batches(self, present: NDArray[np.bool_]) -> Iterator[NDArray[np.intp]]:
        """Rows of each batch; those without any observed frame are in none."""
        count = present.sum(axis=1)
        for observed in range(present.shape[1], 0, -1):
            rows = np.flatnonzero(count == observed)
            for start in range(0, len(rows), self.batch(observed)):
                yield rows[start : start + self.batch(observed)]

    @torch.inference_mode()
    def _embed_batch(self, reflectance: torch.Tensor, places: torch.Tensor, *, frames: int) -> torch.Tensor:
        """Embed a whole batch (B, observed, bands, patch, patch) of frames at their places (B, observed)."""
        values, _ = self._observe(reflectance)
        return functional.normalize(self._network(values, places, frames), dim=-1)

    def _checked(self, reflectance: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        config = self.config
        given = np.asarray(reflectance)
        if not np.issubdtype(given.dtype, np.floating):
            raise ModelError(
                f"reflectance of type {given.dtype}: give float32 from 0 to 1 with NaN where missing "
                "(digital numbers must be scaled first)"
            )
        counts = " or ".join(map(str, config.frame_counts))
        patch = f", {config.patch}, {config.patch}" if config.patch > 1 else ""
        expected = (
            f"encoder '{config.name}' takes (n, {counts} months, {len(config.bands)} bands{patch}) "
            f"in the order {' '.join(config.bands)}"
        )
        if given.ndim == 3 and config.patch == 1:
            given = given[..., None, None]
        if given.ndim != 5:
            raise ModelError(f"reflectance of shape {np.shape(reflectance)}: {expected}")
        _, months, bands, height, width = given.shape
        if bands != len(config.bands):
            raise ModelError(f"reflectance has {bands} bands (shape {np.shape(reflectance)}): {expected}")
        if months not in config.frame_counts:
            raise ModelError(f"reflectance has {months} months (shape {np.shape(reflectance)}): {expected}")
        if (height, width) != (config.patch, config.patch):
            raise ModelError(f"reflectance has patches of {height} x {width}: {expected}")
        return given.astype(np.float32, copy=False)


def new_encoder(
    size: str, *, seed: int = 0, device: str = "auto", precision: str = "auto", **overrides: Any
) -> Encoder:
    """Encoder of a size (``paper``, ``medium`` or ``small``) with fresh weights drawn from ``seed``.

    ``overrides`` are fields of EncoderConfig. The global random state is left as it was.
    """
    config = config_of_size(size, **overrides)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = TimeSenCLIP(config)
    return Encoder(module.eval(), device=device, precision=precision)


def load_encoder(
    name_or_path: str | os.PathLike[str] = "starter", *, device: str = "auto", precision: str = "auto"
) -> Encoder:
    """Load a shipped encoder by name, or one from a ``.safetensors`` file.

    Parameters
    ----------
    name_or_path
        ``starter``, or the path of a file written by train-encoder or import-checkpoint.
    device, precision
        As in Encoder.

    Raises
    ------
    ModelError
        Unknown name, missing, foreign or damaged file, unknown device or precision.
    """
    device, precision = choose_device(device), choose_precision(precision, device=choose_device(device))
    module, sha256 = read_module(name_or_path)
    return Encoder(module, device=device, precision=precision, sha256=sha256)
