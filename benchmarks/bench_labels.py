"""From the cube to classes: what equal pixels save, what finding them costs, what classifying costs."""

from functools import partial

import numpy as np
from lines import Line, seconds_of
from scipy.special import softmax

from timesenmap.model import new_encoder
from timesenmap.pipeline.answer_kinds import MARGINS
from timesenmap.pipeline.encode import embed_block
from timesenmap.pipeline.question import Question, answers

SIDE = 64


def lines(repeats: int) -> list[Line]:
    """Blocks of 64 x 64 pixels through the small encoder, and their embeddings through prompt sets."""
    return [*_equal_pixels(repeats), *(_classes(classes, repeats) for classes in (8, 44))]


def _equal_pixels(repeats: int) -> list[Line]:
    """A block with and without equal pixels against the encoder on every pixel."""
    encoder = new_encoder("small", device="cpu")
    rng = np.random.default_rng(0)
    unlike = rng.integers(1, 6000, (12, 10, SIDE, SIDE), np.uint16)
    nothing = unlike.copy()
    nothing[:, :, : SIDE // 2] = 0
    still = unlike.copy()
    still[:, :, : SIDE // 2] = rng.integers(100, 104, (12, 10, 1, 1))  # such as simulated water
    cubes = {"no two pixels alike": unlike, "half without data": nothing, "half of one series": still}
    series = unlike.transpose(2, 3, 0, 1).reshape(-1, 12, 10).astype(np.float32) / np.float32(10_000)
    runs = [partial(encoder.embed, series)]
    runs += [partial(embed_block, cube, encoder, first_month=1) for cube in cubes.values()]
    theirs, *ours = seconds_of(runs, repeats)
    pixels = SIDE * SIDE
    return [
        Line(f"block, {name}", "pixels/s", pixels / mine, "the encoder on every pixel", pixels / theirs)
        for name, mine in zip(cubes, ours, strict=True)
    ]


def _classes(classes: int, repeats: int) -> Line:
    """Class, confidence and margin of 65,536 embeddings in one pass against NumPy and SciPy."""
    rng = np.random.default_rng(0)
    drawn = [rng.standard_normal((n, 384)).astype(np.float32) for n in (65_536, classes)]
    pixels, prompts = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in drawn)
    question = Question("made-up", prompts, tuple(range(1, classes + 1)), 0.05)

    asked = [question, question.answered_with(MARGINS)]

    def reference() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        probability = softmax((pixels @ prompts.T).astype(np.float64) / 0.05, axis=1)
        top = np.partition(probability, -2, axis=1)[:, -2:]
        return probability.argmax(axis=1) + 1, np.rint(100 * top[:, 1]), np.rint(100 * (top[:, 1] - top[:, 0]))

    differ = [(ours != one).mean() for ours, one in zip(answers(pixels, asked), reference(), strict=True)]
    if max(differ) > 1e-3:  # float32 products of other shapes round otherwise
        raise AssertionError(f"answers differ from the reference in a share of {max(differ):.2%}")
    mine, theirs = seconds_of([partial(answers, pixels, asked), reference], repeats)
    rates = len(pixels) / mine, len(pixels) / theirs
    return Line(
        f"class, confidence and margin, {classes} classes",
        "pixels/s",
        rates[0],
        "NumPy and SciPy, all at once",
        rates[1],
    )
