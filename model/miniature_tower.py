"""The miniature's CLIP: a small open_clip model that learns from captioned drawings and is then frozen.

It is kept as open_clip keeps models in a folder (``open_clip:local-dir:FOLDER``), so that everything after it, from
preparing photos to prompts, runs exactly as with the published towers.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from safetensors.torch import save_file
from torch import Tensor

from timesenmap.model.losses import LARGEST_SCALE, info_nce
from timesenmap.model.miniature_pictures import SIZE
from timesenmap.model.miniature_places import KINDS, SimulatedPlace
from timesenmap.model.torchvision_cpu import ensure_torchvision

DIM: Final = 64

_SHAPE: Final[dict[str, Any]] = {
    "embed_dim": DIM,
    "vision_cfg": {"image_size": SIZE, "layers": 3, "width": 96, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
_PREPROCESS: Final = {"mean": [0.45, 0.46, 0.45], "std": [0.25, 0.23, 0.25], "interpolation": "bicubic"}

_SENTENCES: Final = ("{}", "a photo of {}", "a picture of {}", "here is {}", "{} in the countryside")
_MONTHS: Final = {4: "May", 5: "June", 6: "July", 7: "August", 8: "September"}

Remark = tuple[str, str] | None
"""What a caption adds to the kind of land: a topic and what it says of it."""


def train_tower(
    folder: Path,
    places: Sequence[SimulatedPlace],
    pictures: Sequence[Image],
    *,
    epochs: int,
    batch: int = 128,
    learning_rate: float = 1e-3,
    seed: int = 0,
    advance: Callable[[int], None] | None = None,
) -> str:
    """Train the model on pictures and captions of their places, and write it.

    Both directions of the contrastive loss are used, as in CLIP; two pictures whose captions may be true of each
    other are no negatives.

    Parameters
    ----------
    folder
        To write.
    places, pictures
        What each picture shows; these places are seen nowhere else.
    epochs, batch, learning_rate, seed
        Of AdamW with a warm-up of one epoch and a cosine.
    advance
        Called with the number of pictures after each step.

    Returns
    -------
    str
        Specification of the tower.
    """
    ensure_torchvision()
    import open_clip  # noqa: PLC0415 - seconds to import, and only after ensure_torchvision

    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": _SHAPE, "preprocess_cfg": _PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2), "utf-8")
    rng = np.random.default_rng(seed)
    images = _tensors(pictures)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(**_SHAPE)
    tokenizer = open_clip.SimpleTokenizer(context_length=_SHAPE["text_cfg"]["context_length"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01, fused=True)
    steps = -(-len(images) // batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps, epochs * steps))
    model.train()
    for _ in range(epochs):
        order = rng.permutation(len(images))
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            remarks = [_remark(places[row], rng) for row in rows]
            tokens = tokenizer([_caption(places[row], remark, rng) for row, remark in zip(rows, remarks, strict=True)])
            shown = images[torch.from_numpy(rows)]
            if rng.random() < 0.5:
                shown = shown.flip(-1)
            seen = model.encode_image(shown, normalize=True)
            read = model.encode_text(tokens, normalize=True)
            excluded = torch.from_numpy(_compatible(np.array([places[row].kind for row in rows]), remarks))
            scale = model.logit_scale.exp()
            loss = info_nce(seen, read, scale, excluded=excluded) + info_nce(read, seen, scale, excluded=excluded)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                model.logit_scale.clamp_(max=math.log(LARGEST_SCALE))
            if advance:
                advance(len(rows))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return f"open_clip:local-dir:{folder}"


def _tensors(pictures: Sequence[Image]) -> Tensor:
    """Pictures as the tower's own preprocessing makes them: (n, 3, SIZE, SIZE)."""
    mean, std = (np.array(_PREPROCESS[name], np.float32) for name in ("mean", "std"))
    pixels = np.stack([np.asarray(picture, np.float32) for picture in pictures]) / 255
    return torch.from_numpy((pixels - mean) / std).permute(0, 3, 1, 2).contiguous()


def _remark(place: SimulatedPlace, rng: np.random.Generator) -> Remark:
    """Something that can be seen beside the kind of land, or nothing."""
    soil = abs(place.redness) > 0.3 and KINDS[place.kind].base in ("soil", "rock")
    topics: list[Remark] = [None, ("month", f"in {_MONTHS[place.visit]}")]
    if soil:
        topics.append(("soil", "on red ground" if place.redness > 0 else "on grey ground"))
    if abs(place.brightness - 1) > 0.15:
        topics.append(("light", "on pale ground" if place.brightness > 1 else "on dark ground"))
    return topics[int(rng.integers(len(topics)))]


def _caption(place: SimulatedPlace, remark: Remark, rng: np.random.Generator) -> str:
    kind = KINDS[place.kind]
    phrases = (kind.name, *kind.phrases)
    sentence = _SENTENCES[int(rng.integers(len(_SENTENCES)))].format(phrases[int(rng.integers(len(phrases)))])
    return sentence if remark is None else f"{sentence}, {remark[1]}"


def _compatible(kinds: NDArray[np.integer], remarks: Sequence[Remark]) -> NDArray[np.bool_]:
    """(B, B) whether two captions may be true of one picture: same kind, and no remark that contradicts the other's."""
    topic = np.array(["" if remark is None else remark[0] for remark in remarks])
    words = np.array(["" if remark is None else remark[1] for remark in remarks])
    contradict = (topic[:, None] == topic[None]) & (words[:, None] != words[None])
    return np.asarray((kinds[:, None] == kinds[None]) & ~contradict)


def _rate(step: int, warmup: int, total: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
