"""Pairs of the paper: a place's year of Sentinel-2 and the frozen embeddings of its ground photos."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from timesenmap.model.config import DEFAULT_BANDS, EncoderConfig
from timesenmap.model.errors import ModelError
from timesenmap.model.masking import spectral_dropout
from timesenmap.model.photos import PhotoEmbeddings, one_of, pooled
from timesenmap.model.sen4map import centre_of, from_cube
from timesenmap.model.shards import PreparedRows
from timesenmap.model.training_config import PhotoTrainingConfig
from timesenmap.model.training_data import Floats, Ints, PairBatch, with_noise
from timesenmap.model.zero_shot import Composites, composited

COMPOSITES: Final[dict[int, Composites]] = {12: "monthly", 4: "seasonal", 1: "annual"}


def encoder_input(crops: PreparedRows, rows: Ints, encoder: EncoderConfig) -> Floats:
    """Years of prepared places as an encoder takes them.

    Parameters
    ----------
    crops
        Prepared with the encoder's patch or a larger one, of which the centre is cut.
    rows
        (n,) places.

    Returns
    -------
    array
        float32 (n, months, bands), or (n, months, bands, patch, patch) for patches; 0-1, NaN = missing.
    """
    size = crops.shape("image")[-1]
    if size < encoder.patch:
        raise ModelError(
            f"encoder '{encoder.name}' takes {encoder.patch} x {encoder.patch} pixels, the crops have {size} x {size}: "
            f"prepare them with --patch {encoder.patch}"
        )
    unknown = [band for band in encoder.bands if band not in DEFAULT_BANDS]
    if unknown:
        raise ModelError(f"encoder '{encoder.name}' wants {', '.join(unknown)}: crops hold {', '.join(DEFAULT_BANDS)}")
    window = centre_of(size, encoder.patch)
    image = crops.read("image", rows)[..., window, window]
    bands = [DEFAULT_BANDS.index(band) for band in encoder.bands]
    years = composited(from_cube(image[:, :, bands]), COMPOSITES[encoder.months])
    return years[..., 0, 0] if encoder.patch == 1 else years


@dataclass(frozen=True)
class PhotoPairs:
    """A source of training pairs (see :class:`~timesenmap.model.training_data.Pairs`).

    Attributes
    ----------
    crops, photos
        Prepared places, and embeddings of photos.
    places
        int64 (n,): rows of the crops that train.
    found
        int64 (n, 4): rows of their photos, -1 = missing; at least one each.
    config
        Of the run.
    """

    crops: PreparedRows
    photos: PhotoEmbeddings
    places: Ints
    found: Ints
    config: PhotoTrainingConfig

    @classmethod
    def of(
        cls, crops: PreparedRows, photos: PhotoEmbeddings, places: Ints, config: PhotoTrainingConfig
    ) -> tuple["PhotoPairs", int]:
        """Pairs of the places that have a photo, and how many have none.

        Raises
        ------
        ModelError
            No place has a photo, or the photos were embedded in another space than the encoder's.
        """
        encoder = config.encoder_config
        if (photos.tower, photos.dim) != (encoder.text_tower, encoder.embedding):
            raise ModelError(
                f"photos were embedded by '{photos.tower}' ({photos.dim} numbers), the encoder is to be trained for "
                f"'{encoder.text_tower}' ({encoder.embedding}): set encoder.text_tower and encoder.embedding"
            )
        frame = crops.frame.iloc[places]
        found = photos.find(frame["country"].tolist(), frame["number"].tolist())
        pictured = (found >= 0).any(1)
        if not pictured.any():
            raise ModelError("no place has a photo: were the photos prepared for these crops?")
        return cls(crops, photos, places[pictured], found[pictured], config), int((~pictured).sum())

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """(n,): every place as often as the others."""
        return np.ones(len(self.places))

    @property
    def spared(self) -> None:
        """Every other place is a negative (paper)."""
        return

    @property
    def distractors(self) -> None:
        """None in the paper."""
        return

    def batch(self, rows: Ints, rng: np.random.Generator) -> PairBatch:
        """Make a batch: years read, varied and their bands hidden as configured; photos read and pooled."""
        years = encoder_input(self.crops, self.places[rows], self.config.encoder_config)
        return PairBatch(
            torch.from_numpy(self._varied(years, rng)),
            torch.from_numpy(self._targets(rows, rng)),
            torch.full((len(rows),), -1, dtype=torch.int64),
        )

    def _varied(self, years: Floats, rng: np.random.Generator) -> Floats:
        encoder, hiding = self.config.encoder_config, self.config.hiding
        shape = years.shape  # (n, months, bands[, patch, patch])
        # Pixels of a patch stand in a row with the months: noise and dropout know no patches.
        flat = np.moveaxis(years.reshape(*shape[:3], -1), 2, -1).reshape(len(years), -1, shape[2])
        if any(self.config.noise.model_dump().values()):
            flat = with_noise(flat, self.config.noise, rng)
        if hiding.spectral:
            hidden = np.nan if encoder.presence else np.array(encoder.low) / 10_000.0
            flat = spectral_dropout(flat, rng, share=hiding.spectral, hidden=hidden)
        back = np.moveaxis(flat.reshape(len(years), shape[1], -1, shape[2]), -1, 2)
        return np.ascontiguousarray(back.reshape(shape), np.float32)

    def _targets(self, rows: Ints, rng: np.random.Generator) -> Floats:
        found = self.found[rows]
        present = found >= 0
        if self.config.pooling == "random":
            return self.photos.read(found[np.arange(len(rows)), one_of(present, rng)])
        photos = self.photos.read(found)  # (n, 4, d)
        return photos if self.config.pooling == "attention" else pooled(photos, present)
