"""The output folder: ours, ours alone, and of one place."""

import os
from pathlib import Path

import pytest

from timesenmap.pipeline.errors import LockedError, MapError
from timesenmap.pipeline.workspace import check_folder, open_workspace, require_failed, sha256_of, signature

PLACE = {"crs": "EPSG:32631", "shape": [64, 64], "start": "2017-12-01"}


def test_new_and_empty_folders_are_welcome(tmp_path: Path) -> None:
    check_folder(tmp_path / "new", PLACE)
    assert not (tmp_path / "new").exists()
    check_folder(tmp_path, PLACE)


def test_folder_of_other_files_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(MapError, match=r"make-map did not write.*new or empty folder"), open_workspace(tmp_path, PLACE):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(MapError, match="is a file"):
        check_folder(tmp_path / "out", PLACE)


def test_another_year_is_another_job(tmp_path: Path) -> None:
    with open_workspace(tmp_path / "out", PLACE):
        pass
    check_folder(tmp_path / "out", PLACE)
    with pytest.raises(MapError, match=r'another job \(start was "2017-12-01", now "2018-12-01"\)'):
        check_folder(tmp_path / "out", PLACE | {"start": "2018-12-01"})


def test_two_runs_never_mix(tmp_path: Path) -> None:
    with (
        open_workspace(tmp_path / "out", PLACE),
        pytest.raises(LockedError, match=rf"another run is at work there \(process {os.getpid()} on .*, since 20"),
        open_workspace(tmp_path / "out", PLACE),
    ):
        pass
    with open_workspace(tmp_path / "out", PLACE):
        pass


def test_folder_of_a_run_killed_before_it_had_a_ledger_is_ours(tmp_path: Path) -> None:
    (tmp_path / "out" / "work").mkdir(parents=True)
    check_folder(tmp_path / "out", PLACE)
    (tmp_path / "out" / "work" / "lock").touch()
    check_folder(tmp_path / "out", PLACE)
    (tmp_path / "out" / "work" / "thesis.docx").touch()
    with pytest.raises(MapError, match="did not write"):
        check_folder(tmp_path / "out", PLACE)


def test_nothing_to_retry_is_said_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(MapError, match=r"--retry-failed: no tile failed in --out .*new; run the command without it"):
        require_failed(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with open_workspace(tmp_path / "out", PLACE) as workspace:
        with pytest.raises(MapError, match="no tile failed"):
            require_failed(tmp_path / "out")
        workspace.ledger.fail("cube", "r0000c0000", "boom", 1.0)
        require_failed(tmp_path / "out")


def test_file_is_written_only_when_it_must_be(tmp_path: Path) -> None:
    written: list[Path] = []

    def write(path: Path) -> None:
        path.write_text("map")
        written.append(path)

    with open_workspace(tmp_path / "out", PLACE) as workspace:
        first = workspace.write_file("map.tif", "s1", write)
        assert workspace.write_file("map.tif", "s1", write) == first == sha256_of(tmp_path / "out" / "map.tif")
        assert len(written) == 1
        workspace.write_file("map.tif", "s2", write)
        assert len(written) == 2
        (tmp_path / "out" / "map.tif").write_text("edited by hand")
        assert workspace.write_file("map.tif", "s2", write) == first
        (tmp_path / "out" / "map.tif").unlink()
        workspace.write_file("map.tif", "s2", write)
        assert len(written) == 4


def test_signature_depends_on_values_not_on_order() -> None:
    assert signature(a=1, b=[1, 2]) == signature(b=[1, 2], a=1)
    assert signature(a=1) != signature(a=2)
    assert signature(b=[1, 2]) != signature(b=[2, 1])
