"""The pixel encoder of TimeSenCLIP, the text towers it speaks to, and the prompts asked of it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from timesenmap.model.config import EncoderConfig
from timesenmap.model.errors import ModelError

if TYPE_CHECKING:
    from timesenmap.model.encoder import Encoder, load_encoder, new_encoder
    from timesenmap.model.prompts import PromptSet, class_embeddings, load_prompt_set
    from timesenmap.model.towers import embed_texts

__all__ = [
    "Encoder",
    "EncoderConfig",
    "ModelError",
    "PromptSet",
    "class_embeddings",
    "embed_texts",
    "load_encoder",
    "load_prompt_set",
    "new_encoder",
]

# Loaded when first asked for: torch takes seconds to import, and --help or --show-config need none of it.
_LAZY = {
    "Encoder": "encoder",
    "PromptSet": "prompts",
    "class_embeddings": "prompts",
    "embed_texts": "towers",
    "load_encoder": "encoder",
    "load_prompt_set": "prompts",
    "new_encoder": "encoder",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
