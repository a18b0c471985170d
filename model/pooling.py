"""Pooling of a place's photos with weights that are learnt along with the encoder (an ablation of the paper)."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class AttentionPooling(nn.Module):
    """Mean of several embeddings, each weighted by the softmax of a linear score.

    It starts as the plain mean: all scores are 0.

    Parameters
    ----------
    dim
        Length of an embedding.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, photos: Tensor) -> Tensor:
        """Pool (B, photos, d), of which a photo of zeros is none, to unit vectors (B, d)."""
        missing = ~photos.any(-1)  # (B, photos)
        scores = self.score(photos).squeeze(-1).masked_fill(missing, -torch.inf)
        weights = scores.softmax(-1)
        return functional.normalize(torch.einsum("bp,bpd->bd", weights, photos), dim=-1)
