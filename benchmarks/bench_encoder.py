"""The encoder against PyTorch's own layers with the same weights on the same cores.

Years are whole (no month missing) except where a line says otherwise. Cosines and classes on real series: `make test`.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from lines import Line, seconds_of
from torch import nn

from timesenmap.model import Encoder, EncoderConfig, new_encoder
from timesenmap.model.architecture import TimeSenCLIP

SIZES: dict[str, tuple[str, dict[str, Any], int]] = {  # name -> size, overrides, years embedded at a time
    "paper": ("paper", {}, 384),
    "small": ("small", {}, 3072),
    "width 192, depth 3": ("small", {"width": 192, "heads": 6, "feedforward": 384}, 1536),
    "width 256, depth 4": ("small", {"width": 256, "depth": 4, "heads": 8, "feedforward": 512}, 768),
}
REFERENCE = "nn.TransformerEncoder, float32"


class Plain(nn.Module):
    """The encoder as PyTorch has it: embedding, positions, class token, nn.TransformerEncoder, head.

    The weights are those of a TimeSenCLIP; every token goes through every layer, as in the authors' code.
    """

    def __init__(self, module: TimeSenCLIP) -> None:
        super().__init__()
        config: EncoderConfig = module.config
        self.observe, self.embed, self.head = module.observe, module.embedding, module.head
        self.positions, self.token = module.positions, module.class_token
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, config.feedforward, 0.0, config.activation, batch_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, config.depth, enable_nested_tensor=False)
        self.transformer.layers.load_state_dict(module.layers.state_dict())

    def forward(self, reflectance: torch.Tensor) -> torch.Tensor:
        """Embed (n, 12, bands) -> (n, d), unit length."""
        values, present = self.observe(reflectance)
        tokens = torch.cat([self.token.expand(len(values), 1, -1), self.embed(values) + self.positions], dim=1)
        hidden = None if present.all() else nn.functional.pad(~present, (1, 0), value=False)
        out = self.transformer(tokens, src_key_padding_mask=hidden)
        return nn.functional.normalize(self.head(out[:, 0]), dim=-1)


def in_batches(module: nn.Module, reflectance: torch.Tensor) -> torch.Tensor:
    """Run a module in batches that fit the cache."""
    with torch.inference_mode():
        return torch.cat([module(batch) for batch in reflectance.split(192)])


def lines(repeats: int) -> list[Line]:
    """Pixels a second of each size and precision against PyTorch's own layers in float32."""
    paper = Plain(new_encoder("paper", device="cpu", precision="float32").module).eval()
    found = []
    for name, (size, overrides, pixels) in SIZES.items():
        encoders = {
            precision: new_encoder(size, device="cpu", precision=precision, **overrides)
            for precision in ("float32", "bfloat16")
        }
        plain = Plain(encoders["float32"].module).eval()
        series = _years(pixels)
        runs = [partial(in_batches, plain, torch.from_numpy(series))]
        runs += [partial(_checked(encoder, plain).embed, series) for encoder in encoders.values()]
        if size != "paper":
            runs.append(partial(in_batches, paper, torch.from_numpy(series[:192])))
        theirs, *ours = seconds_of(runs, repeats)
        for precision, mine in zip(encoders, ours, strict=False):
            found.append(
                Line(f"{name}, {precision}", "pixels/s", pixels / mine, f"{REFERENCE}, same size", pixels / theirs)
            )
        if size != "paper":
            best = Line(f"{name}, bfloat16", "pixels/s", pixels / ours[1], f"{REFERENCE}, size paper", 192 / ours[2])
            found.append(best)
        if size == "small" and not overrides:
            found.append(_cloudy(name, encoders["bfloat16"], plain, repeats))
    return found


def _cloudy(name: str, encoder: Encoder, plain: nn.Module, repeats: int) -> Line:
    """A third of the months missing, at random; PyTorch's layers mask them.

    As many years as a quarter of a block: ours go in batches of equal length, the last of each length padded.
    """
    pixels = 16_384
    series = _years(pixels)
    series[np.random.default_rng(1).random((pixels, 12)) < 1 / 3] = np.nan
    runs = [partial(in_batches, plain, torch.from_numpy(series)), partial(encoder.embed, series)]
    theirs, mine = seconds_of(runs, repeats)
    what = f"{name}, bfloat16, a third of the months missing"
    return Line(what, "pixels/s", pixels / mine, f"{REFERENCE}, same size", pixels / theirs)


def _years(pixels: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 0.5, (pixels, 12, 10)).astype(np.float32)


def _checked(encoder: Encoder, plain: nn.Module) -> Encoder:
    """The same encoder; stops the benchmark where it does not say what the reference says."""
    series = _years(100)
    cosine = (
        (torch.from_numpy(encoder.embed(series)) * in_batches(plain, torch.from_numpy(series))).sum(-1).min().item()
    )
    if cosine < 0.9995:
        raise SystemExit(f"{encoder!r}: cosine {cosine:.5f} with the reference; a comparison would mean nothing")
    return encoder
