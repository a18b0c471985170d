"""The whole method in small: drawn photos and simulated series of the same places, a CLIP, and the paper's training.

Nothing here is a shortcut around the project's own code: places are written as Sen4Map crops and photo files,
prepared as those are, trained on by the same training, asked by the same prompts. Only the world is made up, and
small; its numbers say that the method works here, not how well it does outside.

The CLIP learns from pictures and captions of places that appear nowhere else and is then frozen. The encoder sees
series and photos of the training places, never a word or a label. All numbers are of held-out places.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field

from timesenmap.model.ablation import AblationReport, Vary, ablate, variants
from timesenmap.model.encoder import Encoder, load_encoder
from timesenmap.model.errors import ModelError
from timesenmap.model.evaluation import Interval
from timesenmap.model.lucas import DIRECTIONS, photo_key
from timesenmap.model.miniature_pictures import draw_view
from timesenmap.model.miniature_places import KINDS, SimulatedPlace, draw_places, simulate_series
from timesenmap.model.miniature_tower import DIM, train_tower
from timesenmap.model.photos import PhotoEmbeddings, find_photos, pooled
from timesenmap.model.place_evaluation import embed_places, labelled_places, told
from timesenmap.model.prepare import prepare_crops
from timesenmap.model.prepare_photos import prepare_photos
from timesenmap.model.prompts import class_embeddings, load_prompt_set
from timesenmap.model.retrieval_report import RetrievalRow, retrieval_rows
from timesenmap.model.sen4map import BANDS
from timesenmap.model.shards import PreparedRows
from timesenmap.model.towers import image_tower
from timesenmap.model.training_config import PhotoTrainingConfig, SplitConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

Stage = Callable[[str, int, str], AbstractContextManager[Callable[[int], None]]]
"""Shows one stage: name, total, unit -> context that gives what is called with each amount done."""

PROMPTS: Final = "prompts.yaml"


@dataclass(frozen=True)
class MiniatureSize:
    """How much of everything.

    Attributes
    ----------
    pictures, tower_epochs, tower_batch
        Captioned pictures of the CLIP, and its training.
    train, test
        Places with a series and four photos each.
    width, depth, epochs, batch, learning_rate
        Of the encoder and its training.
    vary
        What is ablated.
    """

    pictures: int
    tower_epochs: int
    train: int
    test: int
    width: int
    depth: int
    epochs: int
    batch: int = 256
    learning_rate: float = 3e-3
    tower_batch: int = 128
    vary: tuple[Vary, ...] = ("masking", "pooling")


SIZES: Final = {
    "full": MiniatureSize(3200, 12, 2400, 800, width=64, depth=2, epochs=100),
    "quick": MiniatureSize(
        800, 8, 480, 200, width=48, depth=2, epochs=60, batch=48, learning_rate=5e-3, tower_batch=32, vary=("masking",)
    ),
}


class MiniatureReport(BaseModel):
    """Everything the miniature measured, on held-out places."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    size: str
    training_places: int
    test_places: int
    chance: float = Field(description="one over the number of kinds of land")
    photos: dict[str, Interval] = Field(description="the frozen CLIP on the test places' own photos: the teacher")
    zero_shot: AblationReport = Field(description="encoders as trained with one thing changed, by what they are shown")
    retrieval: tuple[RetrievalRow, ...]


def run_miniature(folder: Path, *, size: str = "full", seed: int = 0, stage: Stage) -> MiniatureReport:
    """Simulate, train and measure; everything made stays in the folder.

    Parameters
    ----------
    folder
        New or empty.
    size
        Name in SIZES.
    seed
        Of the world, the CLIP and the encoders.
    stage
        Shows progress.
    """
    if size not in SIZES:
        raise ModelError(f"size '{size}': choose one of {', '.join(SIZES)}")
    if folder.exists() and any(folder.iterdir()):
        raise ModelError(f"folder '{folder}' is not empty: remove it or name another one")
    folder.mkdir(parents=True, exist_ok=True)
    amounts = SIZES[size]
    rng = np.random.default_rng(seed)
    _write_prompts(folder / PROMPTS)

    places = draw_places(amounts.pictures, rng)
    with stage("draw captioned", len(places), "pictures") as advance:
        pictures = []
        for place in places:
            pictures.append(draw_view(place, rng, blocked=0.0))
            advance(1)
    with stage("train CLIP", amounts.tower_epochs * len(pictures), "pictures") as advance:
        tower = train_tower(
            folder / "tower",
            places,
            pictures,
            epochs=amounts.tower_epochs,
            batch=amounts.tower_batch,
            seed=seed,
            advance=advance,
        )

    for side, number in (("train", amounts.train), ("test", amounts.test)):
        simulated = draw_places(number, rng)
        first = 0 if side == "train" else amounts.train
        with stage(f"photos {side}", number, "places") as advance:
            _write_places(folder / side, simulated, rng, first=first, advance=advance)
        prepare_crops([folder / side / "sen4map.h5"], folder / side / "crops", strict=True)
        with stage(f"embed {side}", 4 * number, "photos") as advance:
            photos = find_photos(folder / side / "photos")
            prepare_photos(
                photos, folder / side / "embedded", image_tower(tower), strict=True, started=_through(advance)
            )

    config = training_config(folder, tower, amounts, seed=seed)
    test = folder / "test" / "crops"
    with stage("train encoders", len(variants(config, amounts.vary)), "encoders") as advance:
        zero_shot = ablate(
            config, amounts.vary, data=test, prompts=str(folder / PROMPTS), labels="lc1", advance=advance
        )
    encoder = load_encoder(config.out, device="cpu")
    embedded = PhotoEmbeddings([folder / "test" / "embedded"])
    return MiniatureReport(
        seed=seed,
        size=size,
        training_places=amounts.train,
        test_places=amounts.test,
        chance=1 / len(KINDS),
        photos=_teacher(folder, encoder, embedded, seed=seed),
        zero_shot=zero_shot,
        retrieval=_retrieval(folder, encoder, embedded),
    )


def training_config(folder: Path, tower: str, amounts: MiniatureSize, *, seed: int) -> PhotoTrainingConfig:
    """The paper's training at the miniature's size: mean of the photos, temporal masking, queue of 2,048 or less."""
    encoder = {
        "width": amounts.width, "depth": amounts.depth, "heads": 4, "feedforward": 2 * amounts.width,
        "embedding": DIM, "text_tower": tower,
    }  # fmt: skip
    return PhotoTrainingConfig(
        targets="photos",
        crops=(folder / "train" / "crops",),
        photos=(folder / "train" / "embedded",),
        out=folder / "encoder.safetensors",
        size="small",
        encoder=encoder,
        seed=seed,
        epochs=amounts.epochs,
        warmup_epochs=1,
        batch=amounts.batch,
        learning_rate=amounts.learning_rate,
        queue=min(2048, amounts.train // 2),
        validation_prompts=None,  # no label chooses the weights: the last epoch's are taken
        split=SplitConfig(validation=0, test=0),  # the test places are others
        device="cpu",
        threads=1,  # matrices this small gain nothing from a second, and lose where the machine is shared
    )


def _through(advance: Callable[[int], None]) -> Callable[[int], Callable[[int], None]]:
    """What a preparation is given whose bar is shown already."""
    return lambda _total: advance


def _write_prompts(path: Path) -> None:
    """Prompt set of the kinds of land; their LUCAS codes are aliases, by which places are matched."""
    classes = [
        {
            "code": number + 1,
            "name": kind.name,
            "colour": f"#{(number * 1_040_000 + 0x204060) % 0x1000000:06x}",
            "prompts": [kind.name, *kind.phrases],
            "aliases": [kind.lc1],
        }
        for number, kind in enumerate(KINDS)
    ]
    content = {"name": "miniature", "title": "Kinds of simulated land", "classes": classes}
    path.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")


def _number(index: int) -> str:
    """A LUCAS point number: points 2 km apart in central Europe."""
    return f"{4000 + 2 * (index % 100)}{3000 + 2 * (index // 100)}"


def _write_places(
    folder: Path,
    places: Sequence[SimulatedPlace],
    rng: np.random.Generator,
    *,
    first: int,
    advance: Callable[[int], None],
) -> None:
    """Sen4Map crops and photo files of places, as one would download them."""
    import h5py  # noqa: PLC0415 - an extra

    series = simulate_series(places, rng)  # (n, 12, 10)
    (folder / "photos").mkdir(parents=True)
    with h5py.File(folder / "sen4map.h5", "w") as file:
        for index, (place, years) in enumerate(zip(places, series, strict=True)):
            number = _number(first + index)
            group = file.create_group(f"Lucas_Point_{number}")
            group.create_dataset("image", data=(years * 10_000).reshape(12, len(BANDS), 1, 1))
            kind = KINDS[place.kind]
            for name, value in (("lc1", kind.lc1), ("lu1", kind.lu1), ("nuts0", "DE")):
                group.attrs[name] = value
            for direction in DIRECTIONS:
                view = draw_view(place, rng)
                view.save(folder / "photos" / f"{photo_key('DE', number, direction)}.jpg", quality=92)
            advance(1)


def _photos_of(folder: Path, photos: PhotoEmbeddings) -> "tuple[NDArray[np.float32], NDArray[np.bool_]]":
    crops = PreparedRows([folder / "test" / "crops"], kind="crops")
    found = photos.find(crops.frame["country"].tolist(), crops.frame["number"].tolist())
    return photos.read(found), found >= 0


def _teacher(folder: Path, encoder: Encoder, photos: PhotoEmbeddings, *, seed: int) -> dict[str, Interval]:
    """Accuracy of the frozen CLIP itself: what the encoder was pulled towards."""
    prompt_set = load_prompt_set(str(folder / PROMPTS))
    vectors = class_embeddings(prompt_set, encoder)
    places = labelled_places(folder / "test" / "crops", prompt_set, encoder, labels="lc1")
    four, present = _photos_of(folder, photos)
    drawn = np.random.default_rng(seed).integers(len(DIRECTIONS), size=len(four))
    one = four[np.arange(len(four)), drawn]
    return {
        "one photo": told(one, vectors, places.truth, places.groups).top1,
        "mean of four photos": told(pooled(four, present), vectors, places.truth, places.groups).top1,
    }


def _retrieval(folder: Path, encoder: Encoder, photos: PhotoEmbeddings) -> tuple[RetrievalRow, ...]:
    prompt_set = load_prompt_set(str(folder / PROMPTS))
    places = labelled_places(folder / "test" / "crops", prompt_set, encoder, labels="lc1")
    four, present = _photos_of(folder, photos)
    return retrieval_rows(embed_places(encoder, places.reflectance), four, present, {"same kind": places.truth})
