"""The same network, refolded for inference: exact algebra, fewer operations.

What :class:`~timesenmap.model.architecture.TimeSenCLIP` computes, with these identities used once, beforehand:

* A month that is masked for all changes nothing: the frames that come in are those that were observed, each with its
  place in the year, and there is no mask.
* Tokens, queries, keys and values of the first layer are linear in its input r: the bands, and a one in the column of
  the frame's place in the year, which picks position and biases. So a head's scores are ``r_i M r_j`` with one small
  matrix M, and values and output projection meet the input's weighted mean: ``O V (sum a r) = (O V) (sum a r)``.
  Queries, keys, values and tokens of that layer are never made.
* The class token alone leaves the last layer, so its query meets the tokens directly: ``q (K x) = (q K) x`` and
  ``sum a (V x) = V (sum a x)``. Neither keys nor values of the other tokens are ever made, and the bias of the keys
  shifts all scores alike, which softmax does not see.
* ``1 / sqrt(head size)`` is part of the query weights.

On a CPU weights are stored in the order in which oneDNN's kernels read them, activations are applied as a product is
written, and attention is written out: PyTorch's fused attention, and its softmax over rows of 13, leave the vector
units idle there (96 pixels, 8 heads of 64, bfloat16, one thread: 4.6 ms fused, 0.8 ms as below).
"""

import copy
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from timesenmap.model.architecture import Layer, TimeSenCLIP

# Inputs are padded to a multiple of so many numbers. In float32 MKL takes other kernels for short series by where in
# memory one begins, and gave the same year other bits elsewhere in a batch; it does not at multiples of 16 bytes.
_ALIGNED = 4
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "gelu": functional.gelu,
    "relu": functional.relu,
}


class Product:
    """A linear layer and what follows it: ``activation(x W' + b)``, in the type of W.

    Parameters
    ----------
    weight, bias
        (out, in) and (out) or None, on the device and in the type of the product.
    activation
        ``none``, ``gelu`` (exact) or ``relu``.
    rows
        How many rows of x come at a time, for which a CPU's weights are laid out.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str = "none", *, rows: int) -> None:
        self._bias, self._name, self._activation, self._dtype = bias, activation, _ACTIVATIONS[activation], weight.dtype
        self._packed = _packs(weight)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, rows) if self._packed else weight

    def __call__(self, x: Tensor) -> Tensor:
        """Compute (rows, in) of any type -> (rows, out)."""
        x = x.to(self._dtype)
        if self._packed:
            out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, self._name, [], "none")
            return out
        return self._activation(functional.linear(x, self._weight, self._bias))


def _packs(weight: Tensor) -> bool:
    """Tell whether torch has, for this processor, the operators that its own compiled CPU code (inductor) calls."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return weight.dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class _Norm(NamedTuple):
    scale: Tensor
    shift: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.scale.shape, self.scale, self.shift)


class _Block(NamedTuple):
    """What follows attention in a layer."""

    out: Product
    norm1: _Norm
    linear1: Product  # with its activation
    linear2: Product
    norm2: _Norm

    def after_attention(self, x: Tensor, attended: Tensor) -> Tensor:
        """Tokens (N, width) float32 that leave the layer, of those that entered it, which are spent."""
        return self.after_norm1(self.norm1(x.add_(self.out(attended))))

    def after_norm1(self, y: Tensor) -> Tensor:
        """The same, of what leaves the first norm."""
        return self.norm2(y.add_(self.linear2(self.linear1(y))))


class _First(NamedTuple):
    """First layer up to its first norm, in float32."""

    scores: Product  # inputs -> heads * inputs
    context: Product  # heads * inputs -> width: values and output projection
    tokens: Product  # inputs -> width: the tokens themselves, and all biases
    norm1: _Norm


class FoldedNetwork:
    """Inference of a TimeSenCLIP.

    Parameters
    ----------
    module
        The network; its weights are copied.
    device, dtype
        Of the products. Those of the first attention and of the head are always float32: they cost little, and
        reflectance in bfloat16 turned the embeddings of series with a single month by up to 3.5 degrees. So are tokens
        between products, sums and norms: that costs 3%, and in bfloat16 the errors were two to three times as large.
    tokens
        How many tokens come at a time, about.
    """

    def __init__(self, module: TimeSenCLIP, *, device: str, dtype: torch.dtype, tokens: int = 2496) -> None:
        self._device, self._dtype, self._rows = device, dtype, tokens
        self._on_cpu = torch.device(device).type == "cpu"
        # A copy, which training on does not reach; on the CPU, where there is float64 to fold in.
        module = copy.deepcopy(module).to("cpu", torch.float32)
        config = module.config
        self._width, self._heads = config.width, config.heads
        self._head_dim = self._width // self._heads
        layers = cast("list[Layer]", list(module.layers))
        with torch.no_grad():
            # Weight (width, features + 1 + T) to tokens: of the values, of the class token, of the frames' places.
            constants = {
                frames: torch.cat([module.class_token[None], module.embedding.bias + module.frame_positions(frames)])
                for frames in config.frame_counts
            }
            embeddings = {
                frames: functional.pad(torch.cat([module.embedding.weight, constant.t()], 1).double(), (0, pad))
                for frames, constant in constants.items()
                for pad in [-(config.features + 1 + frames) % _ALIGNED]
            }
            self._blocks = [self._block(layer, config.activation) for layer in layers]
            self._qkv = [self._product(*_scaled_qkv(layer)) for layer in layers[:-1]]
            self._query, self._keys, self._values = self._split_last(layers[-1])
            self._tokens = {frames: self._exact_product(weight) for frames, weight in embeddings.items()}
            self._first = {
                frames: self._fold_first(layers[0], weight, config.features)
                for frames, weight in embeddings.items()
                if len(layers) > 1 and self._pays(weight.shape[1])
            }
            norm, linears = module.head[0], [part for part in module.head if isinstance(part, nn.Linear)]
            assert isinstance(norm, nn.LayerNorm)
            self._head_norm = self._norm(norm)
            self._head = [
                self._exact_product(linear.weight, linear.bias, "none" if linear is linears[-1] else "gelu")
                for linear in linears
            ]

    def __call__(self, values: Tensor, places: Tensor, frames: int) -> Tensor:
        """Embed observed frames.

        Parameters
        ----------
        values
            (B, T, features) float32, scaled: the T observed frames of each year.
        places
            (B, T) int64: which of the year's frames each is.
        frames
            Frames in a year: 12, 4 or 1.

        Returns
        -------
        Tensor
            (B, embedding) float32, not normalised.
        """
        batch, observed, features = values.shape
        tokens = observed + 1
        length = features + 1 + frames
        inputs = torch.zeros(batch, tokens, length + -length % _ALIGNED, device=self._device)
        inputs[:, 1:, :features] = values
        inputs[:, 0, features] = 1
        inputs[:, 1:, features + 1 :].scatter_(2, places[..., None], 1)
        remaining = list(zip(self._qkv, self._blocks[:-1], strict=True))
        if frames in self._first:
            x = self._blocks[0].after_norm1(self._attend_first(inputs, self._first[frames]))
            del remaining[0]
        else:
            x = self._tokens[frames](inputs.flatten(0, 1))
        for to_qkv, block in remaining:
            qkv = to_qkv(x).view(batch, tokens, -1)
            attended = self._attend_cpu(qkv) if self._on_cpu else self._attend(qkv)
            x = block.after_attention(x, attended.flatten(0, 1))
        x = x.view(batch, tokens, -1)
        attended = self._attend_once(x.to(self._dtype))
        out = self._head_norm(self._blocks[-1].after_attention(x[:, 0], attended))  # (B, width)
        for linear in self._head:
            out = linear(out)
        return out

    def _attend_first(self, inputs: Tensor, first: _First) -> Tensor:
        """First layer up to its first norm: inputs (B, S, K) -> (B * S, width)."""
        batch, tokens, length = inputs.shape
        flat = inputs.flatten(0, 1)
        asking = first.scores(flat).view(batch, tokens * self._heads, length)
        scores = torch.bmm(inputs, asking.transpose(1, 2))  # (B, S asked, S asking * heads)
        weights = torch.softmax(scores, 1)
        context = torch.bmm(weights.transpose(1, 2), inputs)  # (B, S asking * heads, K)
        mixed = first.context(context.view(batch * tokens, -1))
        return first.norm1(mixed.add_(first.tokens(flat)))

    def _attend(self, qkv: Tensor) -> Tensor:
        """All tokens attend to all: qkv (B, S, 3 * width) -> (B, S, width)."""
        batch, tokens, _ = qkv.shape
        split = qkv.reshape(batch, tokens, 3, self._heads, self._head_dim)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each (B, heads, S, head_dim)
        return functional.scaled_dot_product_attention(query, key, value, scale=1.0).transpose(1, 2).flatten(2)

    def _attend_cpu(self, qkv: Tensor) -> Tensor:
        """As ``_attend``; softmax runs down columns."""
        batch, tokens, _ = qkv.shape
        split = qkv.view(batch, tokens, 3, self._heads, self._head_dim)
        query, key, value = (part.permute(2, 0, 1, 3).flatten(0, 1) for part in split.unbind(2))
        scores = torch.bmm(key, query.transpose(1, 2))  # (heads * B, S asked, S asking)
        scores = scores.transpose(0, 1).flatten(1)  # (S asked, heads * B * S asking)
        weights = torch.softmax(scores, 0).t().view(-1, tokens, tokens)
        out = torch.bmm(weights, value).view(self._heads, batch, tokens, -1)
        return out.permute(1, 2, 0, 3).flatten(2)

    def _attend_once(self, x: Tensor) -> Tensor:
        """Let the class token attend in the last layer: x (B, S, width) -> (B, width)."""
        query = self._query(x[:, 0]).view(-1, self._heads, self._head_dim).transpose(0, 1)
        asked = torch.bmm(query, self._keys).transpose(0, 1)  # (B, heads, width)
        context = torch.bmm(torch.softmax(torch.bmm(asked, x.transpose(1, 2)), -1), x)  # (B, heads, width)
        weight, bias = self._values
        return torch.bmm(context.transpose(0, 1), weight).transpose(0, 1).flatten(1) + bias

    def _pays(self, inputs: int) -> bool:
        """Tell whether the folded first layer multiplies less than the plain one, for inputs of this length."""
        width, heads = self._width, self._heads
        return inputs * (heads * inputs + (heads + 1) * width) < width * (inputs + 4 * width)

    def _fold_first(self, layer: Layer, embedding: Tensor, features: int) -> _First:
        """First layer over inputs, of which ``embedding`` (width, K) makes tokens; biases ride on one-hot columns."""
        length = embedding.shape[1]
        ones = torch.zeros(length, dtype=torch.float64)
        ones[features:] = 1
        weight, bias = _scaled_qkv(layer)
        query, key, value = (weight @ embedding + torch.outer(bias, ones)).view(3, self._heads, self._head_dim, length)
        out = layer.self_attn.out_proj.weight.double().view(self._width, self._heads, self._head_dim)
        tokens = embedding + torch.outer(layer.self_attn.out_proj.bias.double(), ones)
        return _First(
            scores=self._exact_product((key.transpose(1, 2) @ query).flatten(0, 1)),
            context=self._exact_product((out.transpose(0, 1) @ value).transpose(0, 1).flatten(1)),
            tokens=self._exact_product(tokens),
            norm1=self._norm(layer.norm1),
        )

    def _split_last(self, layer: Layer) -> tuple[Product, Tensor, tuple[Tensor, Tensor]]:
        """Query; keys (heads, head_dim, width); values (heads, width, head_dim) and their bias."""
        weight, bias = _scaled_qkv(layer)
        (query, key, value), (query_bias, _, value_bias) = weight.chunk(3), bias.chunk(3)
        heads = (self._heads, self._head_dim, self._width)
        values = self._tensor(value.view(heads).transpose(1, 2)), self._tensor(value_bias)
        return self._product(query, query_bias), self._tensor(key.view(heads)), values

    def _block(self, layer: Layer, activation: str) -> _Block:
        out, linear1, linear2 = layer.self_attn.out_proj, layer.linear1, layer.linear2
        return _Block(
            out=self._product(out.weight, out.bias),
            norm1=self._norm(layer.norm1),
            linear1=self._product(linear1.weight, linear1.bias, activation),
            linear2=self._product(linear2.weight, linear2.bias),
            norm2=self._norm(layer.norm2),
        )

    def _product(self, weight: Tensor, bias: Tensor, activation: str = "none") -> Product:
        return Product(self._tensor(weight), self._tensor(bias), activation, rows=self._rows)

    def _exact_product(self, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Product:
        exact_bias = None if bias is None else self._tensor(bias, torch.float32)
        return Product(self._tensor(weight, torch.float32), exact_bias, activation, rows=self._rows)

    def _norm(self, norm: nn.LayerNorm) -> _Norm:
        return _Norm(self._tensor(norm.weight, torch.float32), self._tensor(norm.bias, torch.float32))

    def _tensor(self, values: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        return values.detach().to(self._device, dtype or self._dtype).contiguous()


def _scaled_qkv(layer: Layer) -> tuple[Tensor, Tensor]:
    """Weight (3 * width, width) and bias of queries, keys and values, with the scale of the scores in the queries."""
    attention = layer.self_attn
    weight, bias = attention.in_proj_weight.double().clone(), attention.in_proj_bias.double().clone()
    width = weight.shape[1]
    scale = (width // attention.heads) ** -0.5
    weight[:width] *= scale
    bias[:width] *= scale
    return weight, bias
