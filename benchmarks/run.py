"""Speed of the parts that this project exists for, each as a ratio against a reference in the same run.

    python benchmarks/run.py [--repeats 5]

prints a table and writes benchmarks/results.json and benchmarks/results.md. Times are medians of several repeats;
on a shared machine the ratios mean more than the times.
"""

import argparse
import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from timesenmap.model import EncoderConfig, new_encoder
from timesenmap.pipeline.composite import SCL_SET_ASIDE, composite

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Line:
    """One comparison: units a second of ours and of the reference, and their ratio."""

    what: str
    unit: str
    ours: float
    reference: str
    theirs: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.ours / self.theirs


def rate(function: Callable[[], object], amount: int, repeats: int) -> float:
    """Median amount a second over some repeats, after one that does not count."""
    function()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return amount / statistics.median(seconds)


class Plain(nn.Module):
    """The encoder as PyTorch has it: linear embedding, positions, class token, nn.TransformerEncoder, head."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width = config.width
        self.embed = nn.Linear(len(config.bands) * (2 if config.presence else 1), width)
        self.positions = nn.Parameter(torch.zeros(1, 12, width))
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        layer = nn.TransformerEncoderLayer(
            width, config.heads, config.feedforward, 0.0, config.activation, batch_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, config.depth, enable_nested_tensor=False)
        self.head = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, config.embedding)
        )

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        """Embed (n, 12, bands) -> (n, d), unit length."""
        frames = self.embed(series) + self.positions
        tokens = torch.cat([self.token.expand(len(series), -1, -1), frames], dim=1)
        return nn.functional.normalize(self.head(self.transformer(tokens)[:, 0]), dim=-1)


def in_batches(module: nn.Module, inputs: torch.Tensor) -> list[torch.Tensor]:
    """Run a module in batches that fit the cache, as ours does."""
    return [module(batch) for batch in inputs.split(256)]


def encoder_lines(repeats: int) -> list[Line]:
    """Pixels a second of each size and precision against PyTorch's own layers of the paper's size in float32."""
    rng = np.random.default_rng(0)
    lines = []
    for size, pixels in (("paper", 1024), ("small", 8192)):
        config = new_encoder(size, device="cpu", precision="float32").config
        plain = Plain(config).eval()
        series = rng.random((pixels, 12, len(config.bands)), np.float32) * 0.5
        inputs = torch.from_numpy(np.concatenate([series, np.ones_like(series)], -1) if config.presence else series)
        with torch.inference_mode():
            theirs = rate(partial(in_batches, plain, inputs), pixels, repeats)
        for precision in ("float32", "bfloat16"):
            encoder = new_encoder(size, device="cpu", precision=precision)
            ours = rate(partial(encoder.embed, series), pixels, repeats)
            lines.append(
                Line(f"encoder {size}, {precision}", "pixels/s", ours, "nn.TransformerEncoder, float32", theirs)
            )
    return lines


def composite_line(repeats: int) -> Line:
    """Monthly median of ten scenes of ten bands, 256 x 256, against np.nanmedian on float32."""
    rng = np.random.default_rng(0)
    dn = rng.integers(0, 4000, (10, 10, 256, 256), np.uint16)
    scl = rng.choice(np.array([3, 4, 5, 8, 9], np.uint8), (10, 256, 256))
    multiply, add = np.ones((10, 10)), np.zeros((10, 10))

    def reference() -> object:
        clear = ~np.isin(scl, list(SCL_SET_ASIDE)) & (dn > 0).all(axis=1)
        values = np.where(clear[:, None], dn.astype(np.float32), np.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a pixel that is never clear is NaN, as it should be
            return np.nanmedian(values, axis=0)

    ours = rate(lambda: composite(dn, scl, multiply, add, set_aside=SCL_SET_ASIDE), dn.size, repeats)
    return Line("monthly median", "values/s", ours, "np.nanmedian, float32", rate(reference, dn.size, repeats))


def main() -> None:
    """Run all lines, print the table, write it as JSON and Markdown."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    lines = [*encoder_lines(repeats), composite_line(repeats)]
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__.split('+')[0]}"
    rows = ["| what | ours | reference | theirs | ratio |", "| --- | --- | --- | --- | --- |"]
    rows += [
        f"| {line.what} | {line.ours:,.0f} {line.unit} | {line.reference} | {line.theirs:,.0f} | {line.ratio:.2f} |"
        for line in lines
    ]
    table = "\n".join(rows)
    print(f"{table}\n\nMachine: {machine}; medians of {repeats}.")
    (HERE / "results.md").write_text(f"# Benchmarks\n\n{table}\n\nMachine: {machine}; medians of {repeats}.\n")
    results = {"machine": machine, "lines": [asdict(line) | {"ratio": round(line.ratio, 3)} for line in lines]}
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
