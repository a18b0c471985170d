"""The encoder against PyTorch's own layers with the same weights on the same cores."""

from functools import partial

import numpy as np
import torch
from lines import Line, seconds_of
from torch import nn

from timesenmap.model import Encoder, EncoderConfig, new_encoder
from timesenmap.model.architecture import TimeSenCLIP

PIXELS = {"paper": 768, "small": 6144}


class Plain(nn.Module):
    """The encoder as PyTorch has it: embedding, positions, class token, nn.TransformerEncoder, head.

    The weights are those of a TimeSenCLIP; every token goes through every layer, as in the authors' code.
    """

    def __init__(self, module: TimeSenCLIP) -> None:
        super().__init__()
        config: EncoderConfig = module.config
        self.observe = module.observe
        self.embed, self.positions, self.token, self.head = (
            module.embedding, module.positions, module.class_token, module.head,
        )  # fmt: skip
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, config.feedforward, 0.0, config.activation, batch_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, config.depth, enable_nested_tensor=False)
        self.transformer.layers.load_state_dict(module.layers.state_dict())

    def forward(self, reflectance: torch.Tensor) -> torch.Tensor:
        """Embed (n, 12, bands) -> (n, d), unit length."""
        values, present = self.observe(reflectance)
        frames = self.embed(values) + self.positions
        tokens = torch.cat([self.token.expand(len(frames), 1, -1), frames], dim=1)
        hidden = nn.functional.pad(~present, (1, 0), value=False)
        out = self.transformer(tokens, src_key_padding_mask=hidden)
        return nn.functional.normalize(self.head(out[:, 0]), dim=-1)


def in_batches(module: nn.Module, reflectance: torch.Tensor) -> torch.Tensor:
    """Run a module in batches that fit the cache, as ours does."""
    with torch.inference_mode():
        return torch.cat([module(batch) for batch in reflectance.split(256)])


def lines(repeats: int) -> list[Line]:
    """Pixels a second of each size and precision against PyTorch's own layers in float32."""
    rng = np.random.default_rng(0)
    found = []
    for size, pixels in PIXELS.items():
        encoders = {
            precision: new_encoder(size, device="cpu", precision=precision) for precision in ("float32", "bfloat16")
        }
        module = encoders["float32"].module
        series = rng.random((pixels, 12, len(module.config.bands)), np.float32) * 0.5
        plain = Plain(module).eval()
        reference = in_batches(plain, torch.from_numpy(series))
        for precision, encoder in encoders.items():
            _check_same(encoder, series, reference, 0.999 if precision == "bfloat16" else 0.99999)
        runs = [
            partial(in_batches, plain, torch.from_numpy(series)),
            *(partial(one.embed, series) for one in encoders.values()),
        ]
        theirs, *ours = seconds_of(runs, repeats)
        found += [
            Line(
                f"encoder {size}, {precision}",
                "pixels/s",
                pixels / mine,
                "nn.TransformerEncoder, float32",
                pixels / theirs,
            )
            for precision, mine in zip(encoders, ours, strict=True)
        ]
    return found


def _check_same(encoder: Encoder, series: np.ndarray, reference: torch.Tensor, least: float) -> None:
    cosine = (torch.from_numpy(encoder.embed(series)) * reference).sum(-1).min().item()
    if cosine < least:
        raise SystemExit(f"{encoder!r}: cosine {cosine:.5f} with the reference; the comparison would mean nothing")
