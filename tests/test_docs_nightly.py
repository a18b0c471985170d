"""docs/nightly.md says what the summary holds and what exit codes mean."""

import re
from pathlib import Path

import pytest

from timesenmap.pipeline.errors import LockedError, MapError, SceneReadError
from timesenmap.workflows.account import Summary
from timesenmap.workflows.commands import Terminated, ending_of

PAGE = Path(__file__).resolve().parent.parent / "docs" / "nightly.md"


def rows(page: str, heading: str) -> list[list[str]]:
    """Cells of the first table under a heading, without its head."""
    table = re.findall(r"^\|.*\|$", page.partition(f"## {heading}\n")[2], re.M)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


@pytest.fixture(scope="module")
def page() -> str:
    if not PAGE.is_file():
        pytest.skip("the docs are not beside the tests")
    return PAGE.read_text()


def test_every_field_of_the_summary_is_described(page: str) -> None:
    described = [name for cells in rows(page, "The summary") for name in re.findall(r"`(\w+)`", cells[0])]
    assert described == list(Summary.model_fields)


def test_exit_codes_are_those_of_the_commands(page: str) -> None:
    errors = [SceneReadError(), MapError(), LockedError(), KeyboardInterrupt(), Terminated()]
    described = {int(code): cells[1] for cells in rows(page, "Exit codes")[:5] for code in cells[0].split(",")}
    endings = [ending_of(error) for error in errors]
    assert described == {0: "`done`"} | {one.exit_code: f"`{one.state}`" for one in endings}
