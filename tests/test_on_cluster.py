"""Tiles on the workers of a Dask cluster: two processes on this machine, two threads each."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_works import Told
from distributed import Client, LocalCluster
from odc.geo.geobox import GeoBox

from timesenmap.pipeline.attempts import Errand, Outcome
from timesenmap.pipeline.errors import ClusterError, MapError
from timesenmap.pipeline.grid import tiles
from timesenmap.pipeline.ledger import Ledger
from timesenmap.pipeline.on_cluster import OnCluster, phases
from timesenmap.pipeline.stores import Store
from timesenmap.pipeline.tiling import Stage, TileRun, TilesFailedError
from timesenmap.pipeline.worker import SetUp, facts
from timesenmap.workflows.cluster_kinds import client_of
from timesenmap.workflows.cluster_spec import ClusterSpec

GRID = GeoBox.from_bbox((500000, 5600000, 500960, 5600640), crs="EPSG:32631", resolution=10)
TILES = tiles(GRID, 16)  # 24
KEYS = [tile.key for tile in TILES]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    spec = ClusterSpec.model_validate({"type": "local", "workers": 2, "threads": 2})
    with client_of("two.yaml", spec) as client:
        client.register_plugin(SetUp(facts(), None, 30))
        client.forward_logging("timesenmap", 30)
        yield client


@pytest.fixture(autouse=True)
def two_workers(client: Client) -> None:
    """A worker that an earlier test killed is back."""
    client.wait_for_workers(2, timeout=60)


def errands(count: int = len(TILES)) -> list[Errand]:
    return [Errand(tile, frozenset({"cube"})) for tile in TILES[:count]]


def done(client: Client, work: Told, count: int = len(TILES)) -> dict[str, Outcome]:
    outcomes = OnCluster(client, pause=0.01).run(work, errands(count))
    found = [(errand.tile.key, outcome) for errand, outcome in outcomes]
    assert len(found) == len(dict(found))
    return dict(found)


def test_every_tile_is_done_once_by_one_of_the_workers(client: Client, tmp_path: Path) -> None:
    work = Told(tmp_path, {}, seconds=0.05)
    found = done(client, work)
    assert sorted(found) == sorted(KEYS)
    assert {outcome.error for outcome in found.values()} == {None}
    assert {outcome.worker for outcome in found.values()} == set(client.scheduler_info(n_workers=-1)["workers"])
    assert all(len(work.tries(key)) == 1 for key in KEYS)
    assert all(outcome.spent.seconds >= 0.05 for outcome in found.values())


def test_a_worker_does_one_tile_at_a_time_whatever_its_threads(client: Client, tmp_path: Path) -> None:
    work = Told(tmp_path, {}, seconds=0.05)
    done(client, work)
    tried = sorted(attempt for key in KEYS for attempt in work.tries(key))
    for (worker, _, end), (other, start, _) in itertools.pairwise(tried):
        assert worker != other or end <= start


def test_a_tile_that_fails_is_tried_again_on_the_other_worker(client: Client, tmp_path: Path) -> None:
    work = Told(tmp_path, {KEYS[3]: ("error", 1)})
    found = done(client, work)
    assert found[KEYS[3]].error is None
    (first, *_), (second, *_) = work.tries(KEYS[3])
    assert first != second


def test_a_tile_that_fails_three_times_is_blamed_and_the_others_are_done(client: Client, tmp_path: Path) -> None:
    work = Told(tmp_path, {KEYS[3]: ("error", 99)})
    found = done(client, work)
    assert len(work.tries(KEYS[3])) == 3
    assert found[KEYS[3]].reason == "RuntimeError: broken for the 3. time"
    assert sum(outcome.error is None for outcome in found.values()) == len(KEYS) - 1


def test_a_tile_whose_worker_dies_is_done_by_another(client: Client, tmp_path: Path) -> None:
    found = done(client, Told(tmp_path, {KEYS[3]: ("die", 1)}))
    assert {outcome.error for outcome in found.values()} == {None}


def test_a_tile_that_kills_its_workers_is_blamed(client: Client, tmp_path: Path) -> None:
    """The last of the tiles, so that none waits behind it on a worker that dies."""
    work = Told(tmp_path, {KEYS[0]: ("die", 99)})
    found = done(client, work, 1)
    assert len(work.tries(KEYS[0])) == 3
    assert "died while it had this tile" in found[KEYS[0]].reason


def test_bad_input_stops_the_run_at_once(client: Client, tmp_path: Path) -> None:
    work = Told(tmp_path, {KEYS[0]: ("bad input", 99)})
    with pytest.raises(MapError, match="no such thing; choose another"):
        done(client, work)
    assert len(work.tries(KEYS[0])) == 1
    assert not work.tries(KEYS[-1])


def test_a_full_disk_is_told_and_not_tried_again(client: Client, tmp_path: Path) -> None:
    work = Told(tmp_path, {KEYS[3]: ("disk full", 99)})
    assert done(client, work)[KEYS[3]].disk_full
    assert len(work.tries(KEYS[3])) == 1


def test_the_scheduler_knows_of_few_tiles_and_forgets_them(client: Client, tmp_path: Path) -> None:
    known = []

    def count() -> int:
        return int(client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))

    def counted() -> Iterator[Errand]:
        for errand in errands():
            known.append(count())
            yield errand

    before = count()

    assert len(list(OnCluster(client).run(Told(tmp_path, {}), counted()))) == len(TILES)
    assert max(known) <= before + 8, known  # two a worker, and what is being forgotten
    deadline = time.monotonic() + 30
    while count() > before + 2 and time.monotonic() < deadline:  # it forgets when it comes to it
        time.sleep(0.05)
    assert count() <= before + 2


def test_a_run_that_ends_early_takes_back_what_is_under_way(client: Client, tmp_path: Path) -> None:
    work = Told(tmp_path, {}, seconds=0.2)
    outcomes = OnCluster(client).run(work, errands())
    next(outcomes)
    outcomes.close()
    assert len(list(tmp_path.glob("*"))) <= 6
    assert len(done(client, Told(tmp_path / "..", {}), 2)) == 2  # the cluster is good for another run


def test_the_ledger_has_what_each_worker_did(client: Client, tmp_path: Path) -> None:
    """Failed tiles are told with their reasons; the next run does these alone."""
    ledger, store = Ledger(tmp_path / "ledger.sqlite"), tmp_path / "store"
    stage = Stage("cube", "s1", Store.at(store), store.mkdir)
    work = Told(store, {KEYS[3]: ("error", 3)}, seconds=0.05)

    def run() -> None:
        tile_run = TileRun(ledger, TILES, 16, executor=OnCluster(client, pause=0.01))
        tile_run.run([stage], work=work, advance=lambda pixels, *, before=False: None)
        tile_run.require_all()

    with pytest.raises(TilesFailedError, match=rf"1 of 24 tiles .* cube {KEYS[3]}: broken for the 3. time"):
        run()
    assert ledger.failed("cube") == {KEYS[3]: "RuntimeError: broken for the 3. time"}
    run()
    assert ledger.done("cube") == set(KEYS)
    assert all(len(work.tries(key)) == (4 if key == KEYS[3] else 1) for key in KEYS)
    with ledger._connect() as db:
        workers = {row[0] for row in db.execute("SELECT worker FROM tile")}
    assert len(workers) == 2
    assert all(worker.startswith("tcp://127.0.0.1:") for worker in workers)


def test_workers_speak_in_the_log_of_the_run(client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    done(client, Told(tmp_path, {}), 3)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and len([one for one in caplog.records if one.name == "timesenmap.told"]) < 3:
        time.sleep(0.05)
    told = {one.getMessage(): one.worker for one in caplog.records if one.name == "timesenmap.told"}
    assert sorted(told) == [f"tile {key} is done" for key in KEYS[:3]]
    assert set(told.values()) <= set(client.scheduler_info(n_workers=-1)["workers"])


def test_without_any_worker_the_run_ends_after_its_patience(tmp_path: Path) -> None:
    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
        pytest.raises(ClusterError, match="no worker of the cluster was there for 0 s: what is done is kept"),
    ):
        list(OnCluster(client, patience=0.1).run(Told(tmp_path, {}), errands()))


def test_encoding_goes_to_workers_with_a_gpu_and_reading_to_the_others() -> None:
    assert phases([]) == {}
    assert phases(["CPU"]) == {}
    assert phases(["GPU"]) == {"encoding": {"GPU": 1.0}}
    assert phases(["GPU", "CPU"]) == {"encoding": {"GPU": 1.0}, "reading": {"CPU": 1.0}}
