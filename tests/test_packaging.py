"""The project's own files agree with each other."""

import re
import tomllib
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import yaml
from conftest import REPO
from packaging.requirements import Requirement

# Distributions that conda-forge carries under another name, or in parts.
CONDA_NAMES = {
    "torch": ["pytorch"],
    "dask": ["dask", "distributed"],
    "matplotlib": ["matplotlib-base"],
    "build": ["python-build"],
}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pyproject() -> dict:
    return tomllib.loads((REPO / "pyproject.toml").read_text())


def _wanted() -> dict[str, str]:
    project = _pyproject()["project"]
    lines = project["dependencies"] + [line for extra in project["optional-dependencies"].values() for line in extra]
    wanted = {}
    for requirement in map(Requirement, lines):
        for name in CONDA_NAMES.get(requirement.name, [requirement.name]):
            wanted[_normal(name)] = str(requirement.specifier)
    return wanted


def test_environment_yml_has_the_dependencies_of_pyproject() -> None:
    dependencies = yaml.safe_load((REPO / "environment.yml").read_text())["dependencies"]
    pip_part = next(part["pip"] for part in dependencies if isinstance(part, dict))
    lines = [line for line in dependencies if isinstance(line, str)]
    lines += [line for line in pip_part if not line.startswith("--")]
    listed = {}
    for requirement in map(Requirement, lines):
        listed[_normal(requirement.name)] = str(requirement.specifier)
    listed.pop("python")
    listed.pop("pip")
    assert listed == _wanted()


def test_constraints_pin_every_dependency_within_its_bounds() -> None:
    pins = {}
    for line in (REPO / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            pins[_normal(requirement.name)] = str(requirement.specifier).removeprefix("==")
    project = _pyproject()["project"]
    lines = project["dependencies"] + [line for extra in project["optional-dependencies"].values() for line in extra]
    for requirement in map(Requirement, lines):
        pinned = pins.get(_normal(requirement.name))
        assert pinned is not None, f"{requirement.name} has no tested version in constraints.txt"
        assert requirement.specifier.contains(pinned), f"{requirement} excludes the tested {pinned}"


def test_every_package_folder_is_named_in_pyproject() -> None:
    named = set(_pyproject()["tool"]["setuptools"]["packages"])
    rooms = ("catalogs", "model", "pipeline", "workflows")
    found = {
        "timesenmap." + ".".join(init.parent.relative_to(REPO).parts)
        for room in rooms
        for init in (REPO / room).rglob("__init__.py")
    }
    assert found == named


def test_folders_with_data_are_packages() -> None:
    """A data file in a folder that is no package would be missing from the wheel."""
    for room in ("catalogs", "model", "pipeline", "workflows"):
        for path in (REPO / room).rglob("*"):
            if path.suffix in {".yaml", ".safetensors", ".csv", ".j2"} and "schedules" not in path.parts:
                assert (path.parent / "__init__.py").is_file(), f"{path.parent} holds {path.name} but is no package"


def test_version_is_the_changelogs() -> None:
    released = re.search(r"^## \[?(\d+\.\d+\.\d+)", (REPO / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert released is not None
    assert released.group(1) == version("timesenmap") == _pyproject()["project"]["version"]


def test_types_links_point_to_the_rooms() -> None:
    for room in ("catalogs", "model", "pipeline", "workflows"):
        link = REPO / ".types" / "timesenmap" / room
        assert link.is_symlink()
        assert link.resolve() == (REPO / room).resolve()
        assert Path(link.readlink()) == Path("../..") / room


def test_shipped_training_configurations_are_valid() -> None:
    """The paper's own numbers: batch 1024, 200 epochs, queue 2,048, temperature 0.07, AdamW at 1e-4 and 1e-6."""
    from timesenmap.model.training_config import resolve_config

    paper = resolve_config(REPO / "workflows" / "training" / "paper.yaml", {})
    assert (paper.batch, paper.epochs, paper.queue, paper.temperature) == (1024, 200, 2048, 0.07)
    assert (paper.learning_rate, paper.weight_decay, paper.hiding.temporal) == (1e-4, 1e-6, 0.5)
    config = paper.encoder_config
    assert (config.width, config.depth, config.heads, config.feedforward, config.presence) == (512, 6, 8, 256, False)
    assert resolve_config(REPO / "model" / "weights" / "starter.yaml", {"series": ["x.parquet"]}).size == "small"


def test_no_two_modules_of_the_tests_share_a_name() -> None:
    """Without packages, pytest knows a module by its name alone: of two the second is an error, or hides the first."""
    names = Counter(path.name for path in (REPO / "tests").rglob("*.py") if path.name != "conftest.py")
    assert len(names) > 100
    assert [name for name, times in names.items() if times > 1] == []
