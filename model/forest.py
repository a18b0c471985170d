"""The supervised reference: a forest of extremely randomised trees, cross-validated on the very samples tested.

It is trained on the labels of the place it is tested on, which the zero-shot encoder never sees; so it says how well
the samples can be told apart at all. Source: Geurts et al. 2006, "Extremely randomized trees", Machine Learning
63:3-42; scikit-learn's ``ExtraTreesClassifier``, which takes missing values as they are.
"""

from importlib.util import find_spec
from typing import Final

import numpy as np
import numpy.typing as npt

from timesenmap.model.errors import ModelError

TREES: Final = 500
FOLDS: Final = 5


def require_scikit_learn() -> None:
    """Refuse early where the forest cannot be grown.

    Raises
    ------
    ModelError
        scikit-learn is not installed.
    """
    if find_spec("sklearn") is None:
        raise ModelError("the supervised forest needs scikit-learn: pip install 'timesenmap[train]'")


def forest_predictions(
    reflectance: npt.NDArray[np.float32],
    truth: npt.NDArray[np.int64],
    *,
    trees: int = TREES,
    folds: int = FOLDS,
    seed: int = 0,
    threads: int = 1,
) -> npt.NDArray[np.int64]:
    """Class of every sample as told by a forest grown on the other folds.

    Classes weigh alike (``class_weight="balanced"``). Folds are drawn at random, stratified: each holds its share of
    every class that has as many samples as there are folds. The samples of a rarer class go to different folds, so
    that each is still told by a forest which knows the others; the one sample of a class of one can only be missed.
    Samples of one field may fall into different folds, which makes the forest look better than it is elsewhere.

    Parameters
    ----------
    reflectance
        float32 (n, 12, bands), NaN = missing.
    truth
        int64 (n,) class of each sample.
    trees, folds, seed
        Of the forest and of the draws.
    threads
        Processors to grow trees on.

    Returns
    -------
    array of int64 (n,)

    Raises
    ------
    ModelError
        scikit-learn is not installed, or no class has as many samples as there are folds.
    """
    require_scikit_learn()
    from sklearn.ensemble import ExtraTreesClassifier  # noqa: PLC0415 - an extra

    samples = reflectance.reshape(len(reflectance), -1)
    samples = samples[:, np.isfinite(samples).any(0)]  # what nobody has tells nothing
    predicted = np.empty(len(truth), np.int64)
    for tested in fold_rows(truth, folds=folds, seed=seed):
        known = np.setdiff1d(np.arange(len(truth)), tested)
        forest = ExtraTreesClassifier(trees, class_weight="balanced", random_state=seed, n_jobs=threads)
        predicted[tested] = forest.fit(samples[known], truth[known]).predict(samples[tested])
    return predicted


def fold_rows(truth: npt.NDArray[np.int64], *, folds: int = FOLDS, seed: int = 0) -> list[npt.NDArray[np.int64]]:
    """Rows of each fold, stratified; together every row once.

    The rows of each class are shuffled and dealt out in turn, the next class going on where the last one ended, so
    that folds are of one size and a class's rows are as spread as they can be.

    Raises
    ------
    ModelError
        No class has as many rows as there are folds.
    """
    counts = np.unique(truth, return_counts=True)[1]
    if not len(counts) or counts.max() < folds:
        most = int(counts.max()) if len(counts) else 0
        raise ModelError(f"{folds} folds need a class with {folds} samples; the largest has {most}")
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(truth))
    order = shuffled[np.argsort(truth[shuffled], kind="stable")]
    return [np.sort(order[fold::folds]).astype(np.int64) for fold in range(folds)]
