"""The TimeSenCLIP encoder: a year of Sentinel-2 over one pixel (or patch) -> a vector in a text tower's space.

Source: Jain et al. 2026, ISPRS J. 236:99-119. One implementation serves training and mapping; training adds
dropout and a masking function, nothing else. Parameters of a layer are named as in
``torch.nn.TransformerEncoderLayer`` so that state dicts can be exchanged with it.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from timesenmap.model.config import EncoderConfig
from timesenmap.model.errors import ModelError


class Frames(NamedTuple):
    """A batch of years on their way into the transformer."""

    tokens: Tensor  # (B, T, width) linear embeddings, without temporal positions
    positions: Tensor  # (T, width) or (B, T, width) temporal position of each frame
    present: Tensor  # (B, T) bool: False = masked in attention


Masking = Callable[[Frames], Frames]
"""Temporal masking of training: takes and returns frames; may drop frames or replace them all by one."""


class Scaling(nn.Module):
    """From reflectance to the network's input: scaled values, presence flags, observed months."""

    low: Tensor
    span: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        # Not persistent: the configuration in the checkpoint's metadata is their only home.
        self.register_buffer("low", torch.tensor(config.low).view(-1, 1, 1), persistent=False)
        self.register_buffer("span", torch.tensor(config.span).view(-1, 1, 1), persistent=False)

    def forward(self, reflectance: Tensor) -> tuple[Tensor, Tensor]:
        """Scale reflectance and tell the observed months.

        A missing value (NaN) becomes 0 and, with ``presence``, lowers its band's flag (the share of the
        patch's pixels observed). A month counts as observed if the pixel itself, the centre of the patch,
        has any band; without ``presence`` the encoder could not tell a missing value from a dark one, so
        there a month counts only if no value of the patch is missing: never filled silently.

        Parameters
        ----------
        reflectance
            (B, T, bands) or (B, T, bands, patch, patch) float32, 0-1, NaN = missing.

        Returns
        -------
        values
            (B, T, features): values flattened band by band (c h w, as the authors do), then the flags.
        present
            (B, T) bool.
        """
        x = reflectance[..., None, None] if reflectance.ndim == 3 else reflectance  # (B, T, C, H, W)
        observed = torch.isfinite(x)
        scaled = (x * 10_000.0 - self.low) / self.span
        if self.config.clamp:
            scaled = scaled.clamp(0.0, 1.0)
        values = torch.where(observed, scaled, 0.0).flatten(2)  # (B, T, C * H * W)
        if self.config.presence:
            values = torch.cat([values, observed.float().mean((-1, -2))], -1)  # (B, T, C * H * W + C)
        return values, self.present(observed)

    def present(self, observed: Tensor) -> Tensor:
        """Months that count as observed: (..., T, bands, patch, patch) bool, True = has a value -> (..., T) bool."""
        if self.config.presence:
            centre = self.config.patch // 2
            return observed[..., centre, centre].any(-1)
        return observed.all(-1).all(-1).all(-1)


class SelfAttention(nn.Module):
    """Multi-head attention with the parameter names of ``torch.nn.MultiheadAttention``."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, visible: Tensor, queries: int) -> Tensor:
        """Let the first ``queries`` of the tokens ``x`` (B, S, width) attend to the visible (B, S) ones."""
        batch, tokens, width = x.shape
        heads = (self.heads, width // self.heads)
        query = functional.linear(x[:, :queries], self.in_proj_weight[:width], self.in_proj_bias[:width])
        both = functional.linear(x, self.in_proj_weight[width:], self.in_proj_bias[width:])  # (B, S, 2 * width)
        key, value = both.view(batch, tokens, 2, *heads).permute(2, 0, 3, 1, 4)  # (B, heads, S, head_dim)
        attended = functional.scaled_dot_product_attention(
            query.view(batch, queries, *heads).transpose(1, 2),  # (B, heads, Q, head_dim)
            key,
            value,
            attn_mask=visible[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )  # (B, heads, Q, head_dim)
        out: Tensor = self.out_proj(attended.transpose(1, 2).reshape(batch, queries, width))
        return out


class Layer(nn.Module):
    """A post-norm transformer layer; state dict as ``torch.nn.TransformerEncoderLayer``."""

    def __init__(self, config: EncoderConfig, dropout: float) -> None:
        super().__init__()
        width = config.width
        self.self_attn = SelfAttention(width, config.heads, dropout)
        self.linear1 = nn.Linear(width, config.feedforward)
        self.linear2 = nn.Linear(config.feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.activation = functional.gelu if config.activation == "gelu" else functional.relu

    def forward(self, x: Tensor, visible: Tensor, *, queries: int | None = None) -> Tensor:
        """Transform the first ``queries`` (default all) of the tokens x (B, S, width) -> (B, Q, width)."""
        asked = x.shape[1] if queries is None else queries
        x_asked = x[:, :asked]
        y = self.norm1(x_asked + self.dropout(self.self_attn(x, visible, asked)))
        z = self.linear2(self.dropout(self.activation(self.linear1(y))))
        out: Tensor = self.norm2(y + self.dropout(z))
        return out


class TimeSenCLIP(nn.Module):
    """The encoder.

    Parameters
    ----------
    config
        Shape and scaling.
    dropout
        Share dropped in training (the paper: 0.1 to 0.2); no effect in ``eval()``.
    """

    def __init__(self, config: EncoderConfig, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.observe = Scaling(config)
        width = config.width
        self.embedding = nn.Linear(config.features, width)
        self.positions = nn.Parameter(torch.empty(config.months, width))
        self.class_token = nn.Parameter(torch.empty(width))
        self.layers = nn.ModuleList(Layer(config, dropout) for _ in range(config.depth))
        last: list[nn.Module] = [nn.LayerNorm(width)]
        if config.head == "mlp":
            last += [nn.Linear(width, width), nn.GELU()]
        self.head = nn.Sequential(*last, nn.Linear(width, config.embedding))
        for parameter in (self.positions, self.class_token):
            nn.init.trunc_normal_(parameter, std=0.02)

    def frame_positions(self, frames: int) -> Tensor:
        """Temporal positions (frames, width) of a year in ``frames`` equal parts.

        Twelve become four by the median of each three; all become one by their mean (paper), or by taking
        the first (what the authors' inference does), as ``config.annual_position`` says.
        """
        months = self.config.months
        if frames == months:
            return self.positions
        if frames == 1:
            first = self.config.annual_position == "first"
            return self.positions[:1] if first else self.positions.mean(0, keepdim=True)
        if frames == 4 and months == 12:
            return self.positions.view(4, 3, -1).median(1).values
        raise ModelError(
            f"{frames} frames given: encoder '{self.config.name}' takes "
            f"{', '.join(map(str, self.config.frame_counts))} a year"
        )

    def frames_of(self, values: Tensor, present: Tensor) -> Frames:
        """Linear embeddings, positions and presence of what ``observe`` returned."""
        tokens = self.embedding(values.to(self.embedding.weight.dtype))
        return Frames(tokens, self.frame_positions(values.shape[1]), present)

    def encode_frames(self, frames: Frames) -> Tensor:
        """Run the transformer and the head: (B, embedding), not normalised."""
        tokens, positions, present = frames
        class_tokens = self.class_token.expand(len(tokens), 1, -1)
        x = torch.cat([class_tokens, tokens + positions], 1)  # (B, 1 + T, width)
        visible = functional.pad(present, (1, 0), value=True)  # the class token is always visible: no empty softmax
        for layer in self.layers[:-1]:
            x = layer(x, visible)
        # Only the class token leaves the last layer, so only it is computed there: exact, and cheaper.
        x = self.layers[-1](x, visible, queries=1)
        out: Tensor = self.head(x[:, 0])
        return out

    def forward(self, reflectance: Tensor, *, masking: Masking | None = None) -> Tensor:
        """Embed years.

        Parameters
        ----------
        reflectance
            (B, T, bands) or (B, T, bands, patch, patch), 0-1, NaN = missing; T is 12, 4 or 1 frames of one
            calendar year, in order.
        masking
            Temporal masking of training, applied to the linear embeddings.

        Returns
        -------
        Tensor
            (B, embedding) of unit length. A year without any observation gets the class token's own
            embedding, the same for all: callers set such rows aside.
        """
        frames = self.frames_of(*self.observe(reflectance))
        if masking is not None:
            frames = masking(frames)
        return functional.normalize(self.encode_frames(frames), dim=-1)
