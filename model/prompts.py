"""Prompt sets: the classes of a map, in words.

A prompt set is YAML: a name, a title, optional templates and classes with a code (the value of a pixel), a name, a
colour and prompts. A class's vector is the mean of the unit text embeddings of its prompts, brought to unit length
again (Jain et al. 2026, ISPRS J. 236:99-119).
"""

import hashlib
import json
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, StrictStr, model_validator

from timesenmap.model.errors import ModelError
from timesenmap.model.prompt_files import read_prompt_file, shipped_prompt_sets

if TYPE_CHECKING:
    from timesenmap.model.encoder import Encoder

__all__ = [
    "AmbiguousClasses",
    "Family",
    "HubMeans",
    "PromptClass",
    "PromptSet",
    "ambiguous_classes",
    "class_embeddings",
    "load_prompt_set",
    "prompts_for",
    "shipped_prompt_sets",
]

Family = Literal["descriptive", "class-name", "generic", "land-cover", "land-use", "satellite"]

# The paper's families besides the descriptive one, which is the set's own prompts: a template around the class name.
FAMILY_TEMPLATES: dict[Family, str] = {
    "class-name": "{}",
    "generic": "a photo of a {}.",
    "land-cover": "a land cover photo of {}.",
    "land-use": "a land use photo of {}.",
    "satellite": "a satellite image of {}.",
}

_MOST_CLASSES = 254

# A set's name becomes a file name beside the other files of a run; these are taken.
RESERVED_NAMES = frozenset({"catalog", "collection", "index", "map", "observations", "preview", "run", "work"})


def _text(value: str) -> str:
    """One line of printable text: folded YAML scalars come with line ends and double blanks."""
    text = " ".join(value.split())
    if not text:
        raise ValueError("is empty; write some words or take the entry out")
    if not text.isprintable():
        raise ValueError("holds control characters; write plain text")
    return text


def _template(value: str) -> str:
    if "{}" not in value:
        raise ValueError('has no "{}"; put {} where the prompt goes, as in "a photo of {}."')
    return value


def _colour(value: str) -> str:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        raise ValueError('is not a colour; write red, green, blue as in "#1b7837", in quotes')
    return value.lower()


def _set_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", value):
        raise ValueError("cannot name the map's files; use up to 64 letters, digits, - and _")
    if value.lower() in RESERVED_NAMES:
        raise ValueError(
            f"is the name of another file of a run; choose one other than {', '.join(sorted(RESERVED_NAMES))}"
        )
    return value


def _code(value: int) -> int:
    if not 1 <= value <= 254:
        raise ValueError("is outside 1..254 (0 is no data, 255 is unknown); renumber the class")
    return value


def _probability(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError("is not a probability from 0 to 1; 60 % is written 0.6")
    return value


Text = Annotated[StrictStr, AfterValidator(_text)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PromptClass(_Model):
    """One class of a map."""

    code: Annotated[StrictInt, AfterValidator(_code)] = Field(description="value of the class's pixels, 1..254")
    name: Text = Field(description="name in legends and tables")
    colour: Annotated[StrictStr, AfterValidator(_colour)] = Field(description="#rrggbb")
    prompts: tuple[Text, ...] = Field(min_length=1, description="what someone standing there would say, in words")
    reference: Text | None = Field(default=None, description="code in the nomenclature the class comes from")
    aliases: tuple[Text, ...] = Field(default=(), description="other names of the class in tables of labels")

    @property
    def labels(self) -> frozenset[str]:
        """Name and aliases in lower case: what a table of labels may call the class, upper or lower case."""
        return frozenset(label.casefold() for label in (self.name, *self.aliases))


class HubMeans(_Model):
    """Mean cosine of every class over a fitting set, for the hub correction (see `timesenmap.model.zero_shot`).

    Valid only for the weights and the wording they were fitted with; both are recorded and checked.
    """

    encoder_sha256: StrictStr = Field(description="weights of the encoder the means were fitted with")
    wording_sha256: StrictStr = Field(description="wording of the prompt set then (PromptSet.wording_sha256)")
    rows: StrictInt = Field(ge=1, description="number of series the means were taken over")
    means: tuple[float, ...] = Field(description="mean cosine of each class, in the order of the classes")


class PromptSet(_Model):
    """The classes of one map and the words that describe them.

    Templates hold "{}" where a prompt goes; without templates the prompts are used as they stand.
    """

    name: Annotated[Text, AfterValidator(_set_name)] = Field(description="becomes the name of the map's files")
    title: Text = Field(description="title in legends and reports")
    templates: tuple[Annotated[Text, AfterValidator(_template)], ...] = Field(
        default=(), description='sentences with "{}"'
    )
    classes: tuple[PromptClass, ...] = Field(min_length=2, description="two classes or more")
    hub_means: HubMeans | None = Field(default=None, description="fitted means of the hub correction")
    unknown_below: Annotated[float, Field(strict=True), AfterValidator(_probability)] | None = Field(
        default=None, description="probability of the best class below which a pixel of the map is unknown (255)"
    )

    @model_validator(mode="before")
    @classmethod
    def _codes_for_all(cls, content: Any) -> Any:
        classes = content.get("classes") if isinstance(content, dict) else None
        if isinstance(classes, list | tuple) and len(classes) > _MOST_CLASSES:
            raise ValueError(
                f"prompt set '{content.get('name')}' has {len(classes)} classes and a map has room for {_MOST_CLASSES} "
                "(codes 1..254: 0 is no data, 255 is unknown); merge classes or make two sets"
            )
        return content

    @model_validator(mode="after")
    def _no_duplicates(self) -> Self:
        _refuse_duplicates(
            [(c.code, c.name, f"code {c.code}") for c in self.classes], "give every class a code of its own"
        )
        _refuse_duplicates(
            [(label, f"code {c.code}", f"name '{label}'") for c in self.classes for label in sorted(c.labels)],
            "rename one of them",
        )
        if self.hub_means is not None and len(self.hub_means.means) != len(self.classes):
            count = f"{len(self.hub_means.means)} means for {len(self.classes)} classes"
            raise ValueError(f"hub_means: {count}; fit them again or take them out")
        return self

    @property
    def sha256(self) -> str:
        """SHA-256 of the set as canonical JSON: layout and comments of the YAML do not count, everything else does."""
        return _canonical_sha256(self.model_dump(mode="json", exclude_defaults=True))

    @property
    def wording_sha256(self) -> str:
        """SHA-256 of what the class vectors depend on: templates, and each class's name and prompts in order."""
        return _canonical_sha256([list(self.templates), [[c.name, list(c.prompts)] for c in self.classes]])


def _canonical_sha256(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _refuse_duplicates(keyed: Sequence[tuple[Hashable, str, str]], remedy: str) -> None:
    """Refuse the second of two equal keys; the triples are key, the class in words, the field and value in words."""
    first: dict[Hashable, str] = {}
    for key, who, what in keyed:
        if key in first:
            raise ValueError(f"{what} is used twice, by '{first[key]}' and '{who}'; {remedy}")
        first[key] = who


def load_prompt_set(name_or_path: str) -> PromptSet:
    """Read a prompt set.

    Parameters
    ----------
    name_or_path
        Name of a shipped set (`shipped_prompt_sets` lists them) or path of a YAML file.

    Raises
    ------
    ModelError
        Unknown name, unreadable file, YAML or content that is no prompt set: one line with the file, the class, the
        field, the value and what to do.
    """
    return read_prompt_file(name_or_path, PromptSet)


def prompts_for(prompt_set: PromptSet, family: Family = "descriptive") -> tuple[tuple[str, ...], ...]:
    """Texts of every class, in the order of the classes, for one of the paper's prompt families.

    "descriptive" is the set's own prompts, put into its templates where it has some; the other families put the
    class name into one fixed sentence.

    Raises
    ------
    ModelError
        Unknown family.
    """
    if family == "descriptive":
        templates = prompt_set.templates or ("{}",)
        return tuple(tuple(t.replace("{}", p) for t in templates for p in c.prompts) for c in prompt_set.classes)
    if family not in FAMILY_TEMPLATES:
        raise ModelError(f"prompt family '{family}' is unknown; choose one of {', '.join(get_args(Family))}")
    return tuple((FAMILY_TEMPLATES[family].replace("{}", c.name),) for c in prompt_set.classes)


def class_embeddings(
    prompt_set: PromptSet, encoder: "Encoder | str", *, family: Family = "descriptive"
) -> NDArray[np.float32]:
    """Vector of every class: the mean of the unit text embeddings of its prompts, of unit length again (paper).

    Parameters
    ----------
    prompt_set
        The classes and their prompts.
    encoder
        The pixel encoder whose text tower is asked, or a text tower's specification.
    family
        Prompt family, see `prompts_for`.

    Returns
    -------
    numpy.ndarray
        float32 (k, d), rows in the order of the classes.

    Raises
    ------
    ModelError
        Unknown family or tower, or a class whose prompts cancel out.
    """
    from timesenmap.model.towers import embed_texts  # noqa: PLC0415 - torch takes seconds; reading a set needs none

    texts = prompts_for(prompt_set, family)
    distinct = list(dict.fromkeys(text for group in texts for text in group))
    embedded = dict(zip(distinct, embed_texts(distinct, encoder).astype(np.float64), strict=True))
    means = np.stack([np.mean([embedded[text] for text in group], axis=0) for group in texts])  # (k, d)
    lengths = np.linalg.norm(means, axis=1)
    for entry, length in zip(prompt_set.classes, lengths, strict=True):
        if not length > 1e-6:
            raise ModelError(
                f"prompt set '{prompt_set.name}', class '{entry.name}': its prompts cancel out; reword them"
            )
    return cast("NDArray[np.float32]", (means / lengths[:, None]).astype(np.float32))


@dataclass(frozen=True)
class AmbiguousClasses:
    """Two classes whose vectors nearly coincide, so that the map between them is chance.

    Attributes
    ----------
    first, second
        Names of the classes.
    cosine
        Cosine of their vectors.
    """

    first: str
    second: str
    cosine: float

    def __str__(self) -> str:
        return (
            f"classes '{self.first}' and '{self.second}' read almost the same to the text tower "
            f"(cosine {self.cosine:.3f}); describe what tells them apart or merge them"
        )


def ambiguous_classes(
    prompt_set: PromptSet, vectors: NDArray[np.float32], *, threshold: float = 0.97
) -> tuple[AmbiguousClasses, ...]:
    """Pairs of classes with a cosine above `threshold`, the closest first.

    Parameters
    ----------
    prompt_set
        The classes.
    vectors
        (k, d) unit vectors of `class_embeddings`.
    threshold
        Cosine above which two classes cannot be told apart. 0.97 is a warning level, not a proof: classes of the
        shipped sets stay below 0.8 with all-MiniLM-L6-v2.
    """
    cosines = vectors.astype(np.float64) @ vectors.astype(np.float64).T  # (k, k)
    rows, columns = np.nonzero(np.triu(cosines > threshold, k=1))
    names = [c.name for c in prompt_set.classes]
    pairs = [AmbiguousClasses(names[i], names[j], float(cosines[i, j])) for i, j in zip(rows, columns, strict=True)]
    return tuple(sorted(pairs, key=lambda pair: -pair.cosine))
