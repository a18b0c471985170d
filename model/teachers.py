"""What forests know, handed on: series with the probabilities that each source's own forests give them.

Forests tell the series of one source apart better than a network that has seen many sources and half of their months
(the numbers are in the model card), but they cannot be asked in words. So they teach: they name mixtures of two series
of their source, and the network is pulled towards their probabilities. They know one source and are asked among that
source's captions only, so that nothing of what tells sources apart (missing months, their atmosphere) is handed on.

Extremely randomised trees and a random forest, averaged, on reflectance and seven normalised differences. On the
validation cells of seven sources they name 67.8 % of the captions (mean of the sources; macro F1 39.2, log loss 1.13),
the reference forest of the evaluation (``forest``: reflectance alone) 65.9 % (35.8, 1.20).

What they teach holds where they learnt it: encoders that had them throughout named more of the fields of their sources,
and fewer of other places and in other words. So they teach last, and half of it is kept (``teaching``).

Sources: Hinton et al. 2015, "Distilling the knowledge in a neural network", arXiv 1503.02531; on mixtures, Zhang et al.
2018, "mixup", arXiv 1710.09412, and Beyer et al. 2022, "Knowledge distillation: a good teacher is patient and
consistent", arXiv 2106.05237.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from timesenmap.model.captions import UNLABELLED
from timesenmap.model.config import DEFAULT_BANDS
from timesenmap.model.errors import ModelError
from timesenmap.model.forest import require_scikit_learn
from timesenmap.model.series import SIMULATED

if TYPE_CHECKING:
    from timesenmap.model.training_config import TeacherConfig
    from timesenmap.model.training_data import CaptionPairs

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

LEAST: Final = 20
"""Series a source needs for forests of its own."""

DIFFERENCES: Final = (
    ("B08", "B04"),  # NDVI
    ("B08", "B11"),  # moisture
    ("B03", "B08"),  # open water
    ("B11", "B12"),  # residue and tillage
    ("B08", "B05"),  # red edge
    ("B03", "B11"),  # snow
    ("B04", "B02"),
)
"""Normalised differences that the forests see beside reflectance."""


class Lesson(NamedTuple):
    """Some series, what forests say of them, and the words in which it is said this time."""

    reflectance: Floats  # (n, 12, bands), NaN = missing
    probability: Floats  # (n, captions), NaN where not asked
    words: Floats  # (captions, d) unit vectors, one sentence for each caption


@dataclass(frozen=True)
class Lessons:
    """Series with the probabilities forests give them.

    Attributes
    ----------
    reflectance
        float32 (n, 12, bands), NaN = missing.
    probability
        float32 (n, captions): of each caption that was asked; NaN where it was not.
    sentences
        Unit vectors (wordings, d) of each caption.
    """

    reflectance: Floats
    probability: Floats
    sentences: Sequence[Floats]

    def __len__(self) -> int:
        return len(self.reflectance)

    def draw(self, count: int, rng: np.random.Generator) -> Lesson:
        """Draw series, and a sentence for each caption, as the contrast has them."""
        rows = rng.integers(len(self), size=count)
        words = np.stack([vectors[rng.integers(len(vectors))] for vectors in self.sentences])
        return Lesson(self.reflectance[rows], self.probability[rows], words)


def lessons_of(pairs: "CaptionPairs", config: "TeacherConfig", rng: np.random.Generator) -> Lessons:
    """Let the forests of each measured source label mixtures of its series.

    Every source gives lessons in proportion to the draws it gets in training, a part of them about land cover as there
    (``landcover_share``). A source with fewer than :data:`LEAST` labelled series, or one class, gives none. A mixture
    misses what either of its series misses; where that is everything, the first series stands alone.

    Parameters
    ----------
    pairs
        Series and captions that train.
    config
        How many lessons, from how many trees.
    rng
        Draws the mixtures, and seeds the forests.

    Raises
    ------
    ModelError
        scikit-learn is not installed, or no source can give lessons.
    """
    require_scikit_learn()
    weights = np.where(pairs.sources == SIMULATED, 0.0, pairs.weights)
    weights /= weights.sum() or 1.0
    broad = pairs.config.landcover_share
    lessons = []
    for source in np.unique(pairs.sources[weights > 0]):
        rows = np.flatnonzero(pairs.sources == source)
        for truth, share in ((pairs.labelled.caption, 1 - broad), (pairs.labelled.landcover, broad)):
            count = round(config.lessons * share * weights[rows].sum())
            lessons.append(_lessons(pairs, rows[truth[rows] != UNLABELLED], truth, count, trees=config.trees, rng=rng))
    given = [lesson for lesson in lessons if lesson is not None]
    if not given:
        raise ModelError(
            f"teachers: no measured source has {LEAST} series of two captions; set teacher.weight to 0 or add series"
        )
    return Lessons(
        np.concatenate([series for series, _ in given]),
        np.concatenate([probability for _, probability in given]),
        pairs.sentences,
    )


def _lessons(
    pairs: "CaptionPairs",
    rows: Ints,
    truth: Ints,
    count: int,
    *,
    trees: int,
    rng: np.random.Generator,
) -> tuple[Floats, Floats] | None:
    """Lessons of one source about captions or land cover, None where it has nothing to tell apart."""
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier  # noqa: PLC0415 - an extra

    if len(rows) < LEAST or len(np.unique(truth[rows])) < 2 or not count:
        return None
    known = pairs.reflectance[rows]
    forests = (
        ExtraTreesClassifier(trees, class_weight="balanced", random_state=_seed(rng)),
        RandomForestClassifier(
            trees, max_features=0.15, min_samples_leaf=2, class_weight="balanced_subsample", random_state=_seed(rng)
        ),
    )
    told_apart = features(known)
    for forest in forests:
        forest.fit(told_apart, truth[rows])
    drawn = pairs.weights[rows] / pairs.weights[rows].sum()
    first, second = (known[rng.choice(len(rows), count, p=drawn)] for _ in range(2))
    series = mixed(first, second, rng)
    probability = np.full((count, len(pairs.table.names)), np.nan, np.float32)
    seen = features(series)
    probability[:, forests[0].classes_] = np.mean([forest.predict_proba(seen) for forest in forests], 0)
    return series, probability


def mixed(first: Floats, second: Floats, rng: np.random.Generator) -> Floats:
    """Mix series (n, 12, bands) two and two, in shares that are drawn evenly from 0 to 1."""
    share = rng.random((len(first), 1, 1), np.float32)
    series = (1 - share) * first + share * second
    nothing = ~np.isfinite(series).any((1, 2))
    series[nothing] = first[nothing]
    return series


def features(series: Floats) -> Floats:
    """What the forests see of series (n, 12, bands): every reflectance and normalised difference; (n, 12 * 17)."""
    band = {name: series[..., number] for number, name in enumerate(DEFAULT_BANDS)}
    differences = [(band[a] - band[b]) / np.maximum(band[a] + band[b], 1e-4) for a, b in DIFFERENCES]
    return np.concatenate([series, np.stack(differences, -1)], -1).reshape(len(series), -1)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
