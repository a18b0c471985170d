"""The same network, refolded for inference: exact algebra, fewer operations.

What :class:`~timesenmap.model.architecture.TimeSenCLIP` computes, with these identities used once, beforehand:

* The first layer's queries, keys and values are linear in the input, so they, and the tokens themselves, come from
  one product with the bands; temporal positions, biases and the class token are columns of it, picked by one-hot
  features.
* The class token alone leaves the last layer, so its query meets the tokens directly: ``q (K x) = (q K) x`` and
  ``sum a (V x) = V (sum a x)``. Neither keys nor values of the other tokens are ever made, and the bias of the keys
  shifts all scores alike, which softmax does not see.
* ``1 / sqrt(head size)`` is part of the query weights.
* The bias of a product that is added to tokens rides on those tokens: they are stored with it already added, and
  whatever else reads them has it subtracted from its own bias. Product and addition are then one operation.

On a CPU attention is written out: PyTorch's fused attention, and its softmax over rows of 13, leave the vector units
idle there (192 pixels, 4 heads, bfloat16, one thread: 4.2 ms fused, 0.9 ms as below).
"""

import copy
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from timesenmap.model.architecture import Layer, TimeSenCLIP

_Affine = tuple[Tensor, Tensor]  # weight (out, in) and bias (out), or scale and shift of a norm


class _Block(NamedTuple):
    """What follows attention in a layer. Tokens come with the bias of ``out`` and leave with the next one's."""

    out: Tensor  # (width, width), out x in
    norm1: _Affine  # its shift holds the bias of linear2
    linear1: _Affine
    linear2: Tensor  # (width, feedforward), out x in
    norm2: _Affine  # its shift holds the bias of the next layer's out


class FoldedNetwork:
    """Inference of a TimeSenCLIP.

    Parameters
    ----------
    module
        The network; its weights are copied.
    device, dtype
        Of the products. The first and the head are always float32: they cost little, and reflectance in bfloat16
        turned the embeddings of series with a single month by up to 3.5 degrees.
    """

    def __init__(self, module: TimeSenCLIP, *, device: str, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype
        # A copy, which training on does not reach; on the CPU, where there is float64 to fold in.
        module = copy.deepcopy(module).to("cpu", torch.float32)
        self._width, self._heads = module.config.width, module.config.heads
        self._head_dim = self._width // self._heads
        layers = cast("list[Layer]", list(module.layers))
        self._activation = layers[0].activation
        with torch.no_grad():
            # What rides on the tokens that enter each layer, and on those that leave the last: nothing.
            riders = [layer.self_attn.out_proj.bias.double() for layer in layers]
            after = [*riders[1:], torch.zeros_like(riders[0])]
            self._first = {frames: self._fold_input(module, frames) for frames in module.config.frame_counts}
            self._qkv = [
                self._affine(*_unshift(*_scaled_qkv(layer), rider))
                for layer, rider in zip(layers[1:-1], riders[1:-1], strict=True)
            ]
            self._blocks = [self._block(layer, rider) for layer, rider in zip(layers, after, strict=True)]
            self._query, self._keys, self._values = self._split_last(layers[-1], riders[-1])
            norm, linears = module.head[0], [part for part in module.head if isinstance(part, nn.Linear)]
            assert isinstance(norm, nn.LayerNorm)
            self._head_norm = self._exact(norm.weight), self._exact(norm.bias)
            self._head = [(self._exact(linear.weight), self._exact(linear.bias)) for linear in linears]

    def __call__(self, values: Tensor, present: Tensor) -> Tensor:
        """Embed what ``TimeSenCLIP.observe`` gave.

        Parameters
        ----------
        values
            (B, T, features), scaled.
        present
            (B, T) bool.

        Returns
        -------
        Tensor
            (B, embedding) float32, not normalised.
        """
        batch, frames, features = values.shape
        tokens, weight = frames + 1, self._first[frames]
        picked = torch.zeros(batch, tokens, weight.shape[0], device=self._device)
        picked[:, 1:, :features] = values
        picked[:, :, features:] = torch.eye(tokens, device=self._device)
        hidden = torch.zeros(batch, tokens, dtype=self._dtype, device=self._device)
        hidden[:, 1:].masked_fill_(~present, float("-inf"))
        columns = hidden.t()[:, :, None].expand(tokens, batch, tokens).flatten(1)  # (S asked, B * S asking)

        first = (picked @ weight).to(self._dtype)  # (B, S, width), or (B, S, 4 * width) where there are more layers
        x = first[..., : self._width]
        for i, block in enumerate(self._blocks[:-1]):
            qkv = first[..., self._width :] if i == 0 else functional.linear(x, *self._qkv[i - 1])
            attended = self._attend(qkv, hidden) if x.device.type != "cpu" else self._attend_cpu(qkv, columns)
            x = self._finish(x.flatten(0, 1), attended.flatten(0, 1), block).view(batch, tokens, -1)
        out = self._finish(x[:, 0], self._attend_once(x, hidden), self._blocks[-1])  # (B, width)
        out = self._norm(out.float(), self._head_norm)
        for linear in self._head[:-1]:
            out = functional.gelu(functional.linear(out, *linear))
        return functional.linear(out, *self._head[-1])

    def _finish(self, x: Tensor, attended: Tensor, block: _Block) -> Tensor:
        """Everything in a layer after attention, over tokens (N, width)."""
        y = self._norm(torch.addmm(x, attended, block.out.t()), block.norm1)
        z = self._activation(functional.linear(y, *block.linear1))
        return self._norm(torch.addmm(y, z, block.linear2.t()), block.norm2)

    def _norm(self, x: Tensor, norm: _Affine) -> Tensor:
        scale, shift = norm
        return functional.layer_norm(x, (self._width,), scale, shift)

    def _attend(self, qkv: Tensor, hidden: Tensor) -> Tensor:
        """All tokens attend to all: qkv (B, S, 3 * width), hidden (B, S) 0 or -inf -> (B, S, width)."""
        batch, tokens, _ = qkv.shape
        split = qkv.reshape(batch, tokens, 3, self._heads, self._head_dim)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each (B, heads, S, head_dim)
        out = functional.scaled_dot_product_attention(query, key, value, attn_mask=hidden[:, None, None, :], scale=1.0)
        return out.transpose(1, 2).flatten(2)

    def _attend_cpu(self, qkv: Tensor, columns: Tensor) -> Tensor:
        """As ``_attend``, with ``hidden`` spread to (S asked, B * S asking): softmax runs down columns."""
        batch, tokens, _ = qkv.shape
        split = qkv.view(batch, tokens, 3, self._heads, self._head_dim)
        query, key, value = (part.permute(2, 0, 1, 3).flatten(0, 1) for part in split.unbind(2))
        scores = torch.bmm(key, query.transpose(1, 2))  # (heads * B, S asked, S asking)
        scores = scores.transpose(0, 1).contiguous()  # (S asked, heads * B, S asking)
        scores.view(tokens, self._heads, -1).add_(columns[:, None])
        weights = torch.softmax(scores.view(tokens, -1), 0).t().view(-1, tokens, tokens)
        out = torch.bmm(weights, value).view(self._heads, batch, tokens, -1)
        return out.permute(1, 2, 0, 3).flatten(2)

    def _attend_once(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Let the class token attend in the last layer: x (B, S, width) -> (B, width)."""
        query = functional.linear(x[:, 0], *self._query).view(-1, self._heads, self._head_dim).transpose(0, 1)
        asked = torch.bmm(query, self._keys).transpose(0, 1)  # (B, heads, width)
        scores = torch.bmm(asked, x.transpose(1, 2)) + hidden[:, None, :]  # (B, heads, S)
        context = torch.bmm(torch.softmax(scores, -1), x)  # (B, heads, width)
        weight, bias = self._values
        return torch.bmm(context.transpose(0, 1), weight).transpose(0, 1).flatten(1) + bias

    def _fold_input(self, module: TimeSenCLIP, frames: int) -> Tensor:
        """Weight (features + 1 + T, width or 4 * width): to tokens, then the first layer's queries, keys, values."""
        embedding, layer = module.embedding, cast("Layer", module.layers[0])
        constant = embedding.bias + module.frame_positions(frames)  # (T, width)
        one_hot = torch.cat([module.class_token[None], constant]).double()  # (1 + T, width)
        spectral = embedding.weight.double().t()  # (features, width)
        tokens = torch.cat([spectral, one_hot + layer.self_attn.out_proj.bias.double()])
        if len(module.layers) == 1:
            return self._exact(tokens)
        weight, bias = _scaled_qkv(layer)
        qkv = torch.cat([spectral @ weight.t(), one_hot @ weight.t() + bias])
        return self._exact(torch.cat([tokens, qkv], 1))

    def _split_last(self, layer: Layer, rider: Tensor) -> tuple[_Affine, Tensor, _Affine]:
        """Query; keys (heads, head_dim, width); values (heads, width, head_dim) and their bias."""
        weight, bias = _unshift(*_scaled_qkv(layer), rider)
        (query, key, value), (query_bias, _, value_bias) = weight.chunk(3), bias.chunk(3)
        heads = (self._heads, self._head_dim, self._width)
        values = self._affine(value.view(heads).transpose(1, 2), value_bias)
        return self._affine(query, query_bias), self._tensor(key.view(heads)), values

    def _block(self, layer: Layer, rider: Tensor) -> _Block:
        linear2_bias = layer.linear2.bias.double()
        return _Block(
            out=self._tensor(layer.self_attn.out_proj.weight),
            norm1=self._affine(layer.norm1.weight, layer.norm1.bias + linear2_bias),
            linear1=self._affine(*_unshift(layer.linear1.weight, layer.linear1.bias, linear2_bias)),
            linear2=self._tensor(layer.linear2.weight),
            norm2=self._affine(layer.norm2.weight, layer.norm2.bias + rider),
        )

    def _affine(self, weight: Tensor, bias: Tensor) -> _Affine:
        return self._tensor(weight), self._tensor(bias)

    def _tensor(self, values: Tensor) -> Tensor:
        return values.detach().to(self._device, self._dtype).contiguous()

    def _exact(self, values: Tensor) -> Tensor:
        return values.detach().to(self._device, torch.float32).contiguous()


def _scaled_qkv(layer: Layer) -> tuple[Tensor, Tensor]:
    """Weight (3 * width, width) and bias of queries, keys and values, with the scale of the scores in the queries."""
    attention = layer.self_attn
    weight, bias = attention.in_proj_weight.double().clone(), attention.in_proj_bias.double().clone()
    width = weight.shape[1]
    scale = (width // attention.heads) ** -0.5
    weight[:width] *= scale
    bias[:width] *= scale
    return weight, bias


def _unshift(weight: Tensor, bias: Tensor, rider: Tensor) -> tuple[Tensor, Tensor]:
    """The same product of tokens that carry ``rider``: ``W x + b = W (x + r) + (b - W r)``."""
    return weight, bias.double() - weight.double() @ rider
