"""--cluster: what it takes, what it starts, and what it refuses before any tile begins."""

import dataclasses
import subprocess
import sys
import types
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from distributed import Client, LocalCluster

from timesenmap.catalogs.demonstration import Demonstration
from timesenmap.pipeline import worker
from timesenmap.pipeline.attempts import Here
from timesenmap.pipeline.encode import EncoderRef
from timesenmap.pipeline.errors import ClusterError, MapError
from timesenmap.pipeline.ledger import Ledger
from timesenmap.pipeline.on_cluster import OnCluster
from timesenmap.pipeline.stores import Store
from timesenmap.pipeline.workspace import OWNER
from timesenmap.workflows import cluster, cluster_kinds, cluster_spec
from timesenmap.workflows.cluster import Place, open_cluster
from timesenmap.workflows.cluster_kinds import KINDS, client_of
from timesenmap.workflows.cluster_spec import ClusterSpec, Workers, read_cluster, this_machine
from timesenmap.workflows.make_map_command import main

SHIPPED = Path(cluster.__file__).parent / "clusters"


def spec(**fields: Any) -> ClusterSpec:
    return ClusterSpec.model_validate(fields)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[LocalCluster]:
    """A cluster of two workers that runs already, in this process."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None
    ) as cluster:
        yield cluster


def test_local_is_this_process_on_a_small_machine_and_processes_on_a_large_one() -> None:
    assert this_machine(2, 24 << 30).in_this_process
    assert this_machine(64, 4 << 30).in_this_process
    large = this_machine(64, 256 << 30)
    assert (large.workers, large.threads, large.memory) == (Workers(minimum=8, maximum=8), 8, 32 << 30)
    assert this_machine(64, 12 << 30).workers == Workers(minimum=4, maximum=4)
    with open_cluster("local") as place:
        assert isinstance(place.executor, Here | OnCluster)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_examples_are_valid(path: Path) -> None:
    assert read_cluster(str(path)).type == path.stem


def test_every_kind_has_an_example() -> None:
    assert {path.stem for path in SHIPPED.glob("*.yaml")} == {*KINDS, cluster_spec.SCHEDULER}
    assert set(KINDS) == set(cluster_spec.STARTED)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("type: slrum", "type 'slrum' is unknown; choose of local, cuda, slurm"),
        ("type: local\nwokers: 2", "unknown field 'wokers'; the fields are type, address, workers"),
        ("workers: 2", "type is missing"),
        ("type: local\nworkers: {minimum: 3, maximum: 2}", "minimum 3 is more than maximum 2"),
        ("type: local\nworkers: 0", "workers.maximum 0: Input should be greater than or equal to 1"),
        ("type: local\nworkers: many", "workers 'many'"),
        ("type: local\nmemory: 8 apples", "memory '8 apples'"),
        ("type: slurm\nworkers: 2", "threads and memory of a worker must be given for slurm"),
        ("type: scheduler", "address goes with type scheduler"),
        ("type: local\naddress: tcp://a:1", "address goes with type scheduler"),
        ("type: scheduler\naddress: tcp://a:1\nworkers: 2", "drop workers and options"),
        ("type: [", "is not YAML"),
        ("- local", "valid dictionary"),
    ],
)
def test_mistakes_in_a_file_are_named(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(MapError, match=f"^--cluster {path}: ") as raised:
        read_cluster(str(path))
    assert says in str(raised.value)
    assert "workflows/clusters" in str(raised.value)


def test_a_mistake_ends_the_command_before_anything_is_written(place: Demonstration, tmp_path: Path) -> None:
    flags = ["--aoi", place.aoi, "--catalog", place.catalog, "--year", place.year, "--prompts", "land-cover"]
    out = tmp_path / "out"
    for value, says in (
        ("nowhere.yaml", "error: --cluster nowhere.yaml: cannot be read (No such file or directory)"),
        ("tcp://127.0.0.1:1", "error: --cluster tcp://127.0.0.1:1: no Dask scheduler answers at tcp://127.0.0.1:1"),
    ):
        result = CliRunner().invoke(main, [*map(str, flags), "--out", str(out), "--cluster", value])
        assert result.exit_code == 2, result.output
        assert says in result.stderr
        assert not (out / "work" / "cube.zarr").exists()


@pytest.fixture
def made_of(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Classes of libraries that are not installed, replaced by one that notes its options and starts nothing much."""
    made: list[dict[str, Any]] = []

    class Started:
        def __init__(self, **options: Any) -> None:
            made.append(options)

        def __enter__(self) -> "Started":
            return self

        def __exit__(self, *_: object) -> None:
            made.append({"closed": True})

        def adapt(self, **numbers: int) -> None:
            made.append({"adapt": numbers})

        def scale(self, number: int) -> None:
            made.append({"scale": number})

    for kind in KINDS.values():
        module = types.ModuleType(kind.module)
        for same in KINDS.values():
            setattr(module, same.name, Started)
        monkeypatch.setitem(sys.modules, kind.module, module)
    monkeypatch.setattr(cluster_kinds, "Client", _NoClient)
    return made


class _NoClient:
    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> "_NoClient":
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("fields", "options", "then"),
    [
        (
            {"type": "slurm", "workers": {"minimum": 0, "maximum": 9}, "threads": 8, "memory": "16 GiB",
             "options": {"queue": "long"}},
            {"cores": 1, "processes": 1, "memory": "16.000 GiB", "job_cpu": 8, "queue": "long"},
            [{"adapt": {"minimum": 1, "maximum": 9}}],
        ),
        ({"type": "pbs", "workers": 3, "threads": 2, "memory": 1 << 30}, {"cores": 1, "processes": 1,
         "memory": "1.000 GiB", "resource_spec": "select=1:ncpus=2:mem=1024mb"}, [{"scale": 3}]),
        ({"type": "cuda"}, {"threads_per_worker": 1, "resources": {"GPU": 1}}, []),
        ({"type": "cuda", "workers": 2, "threads": 4}, {"threads_per_worker": 4, "resources": {"GPU": 1},
         "n_workers": 2}, []),
        ({"type": "kubernetes", "workers": 5, "options": {"image": "x"}}, {"image": "x"}, [{"scale": 5}]),
        ({"type": "gateway", "workers": {"maximum": 5}}, {}, [{"adapt": {"minimum": 1, "maximum": 5}}]),
    ],
)  # fmt: skip
def test_fields_become_options_of_the_library(
    fields: dict[str, Any], options: dict[str, Any], then: list[Any], made_of: list[dict[str, Any]]
) -> None:
    with client_of("cluster.yaml", spec(**fields)):
        assert made_of == [options, *then]
    assert made_of[-1] == {"closed": True}


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("slurm", ("#SBATCH -p standard", "#SBATCH -A my-account", "#SBATCH --cpus-per-task=8", "#SBATCH --mem=16G",
                   "#SBATCH -t 04:00:00", "--nthreads 1", "--lifetime 225m")),
        ("pbs", ("#PBS -q standard", "#PBS -A my-account", "#PBS -l select=1:ncpus=8:mem=16gb", "--nthreads 1")),
        ("lsf", ("#BSUB -q standard", '#BSUB -P "my-project"', "#BSUB -n 8", "#BSUB -W 04:00", "--nthreads 1")),
    ],
)  # fmt: skip
def test_shipped_examples_make_the_job_scripts_of_their_queues(kind: str, says: tuple[str, ...]) -> None:
    """By dask-jobqueue itself, in a process of its own: it starts a scheduler."""
    code = (
        "from timesenmap.workflows.cluster_kinds import _maker\n"
        "from timesenmap.workflows.cluster_spec import read_cluster\n"
        f"make, options = _maker('x', read_cluster({str(SHIPPED / (kind + '.yaml'))!r}))\n"
        "with make(**options, scheduler_options={'dashboard_address': None, 'host': '127.0.0.1'}) as it:\n"
        "    print(it.job_script())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for part in says:
        assert part in done.stdout


def test_a_library_that_is_missing_or_refuses_an_option_is_named() -> None:
    for kind, package in (("cuda", "dask-cuda"), ("kubernetes", "dask-kubernetes"), ("gateway", "dask-gateway")):
        with (
            pytest.raises(MapError, match=f"--cluster c.yaml: type {kind} needs {package}"),
            client_of("c.yaml", spec(type=kind)),
        ):
            pass
    wrong = spec(type="local", workers=1, options={"colour": "blue"})
    with pytest.raises(MapError, match=r"local does not take these options \(.*colour"), client_of("c.yaml", wrong):
        pass


def offered_cluster(**options: Any) -> LocalCluster:
    return LocalCluster(
        n_workers=1, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None, **options
    )


def test_another_package_may_offer_a_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("coiled-like", f"{__name__}:offered_cluster", cluster_spec.ENTRY_POINT)
    for module in (cluster_spec, cluster_kinds):
        monkeypatch.setattr(module, "offered", lambda: {"coiled-like": point})
    with client_of("c.yaml", spec(type="coiled-like", options={"threads_per_worker": 3})) as client:
        client.wait_for_workers(1, timeout=30)
        (found,) = client.scheduler_info(n_workers=-1)["workers"].values()
        assert found["nthreads"] == 3


def test_a_running_scheduler_is_used_and_left_running(scheduler: LocalCluster) -> None:
    with open_cluster(scheduler.scheduler_address) as place:
        assert isinstance(place.executor, OnCluster)
        assert place.encoding is not None
        here = EncoderRef("starter", "0" * 64, "cuda", "float32")
        assert dataclasses.astuple(place.encoder(here)) == ("starter", "0" * 64, *place.encoding)
    assert Place(Here()).encoder(here) is here
    assert len(scheduler.scheduler_info["workers"]) == 2


def refused(address: str) -> str:
    with pytest.raises(MapError) as raised, open_cluster(address):
        pytest.fail("it was opened")
    return str(raised.value)


def test_workers_of_other_versions_are_refused(scheduler: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    real = worker.facts()
    there = dataclasses.replace(real, versions=real.versions | {"torch": "1.0"})
    monkeypatch.setattr(worker, "facts", lambda: there)
    message = refused(scheduler.scheduler_address)
    assert "--cluster tcp://127.0.0.1" in message
    assert f"differs: torch {real.versions['torch']} here, 1.0 there; install the same" in message
    monkeypatch.setattr(worker, "facts", lambda: dataclasses.replace(real, code="f" * 64))
    assert f"differs: timesenmap's code {real.code[:12]} here, ffffffffffff there" in refused(
        scheduler.scheduler_address
    )


def test_a_scheduler_of_another_version_is_refused(scheduler: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    real = worker.facts()
    mine = dataclasses.replace(real, versions=real.versions | {"distributed": "2020.1.0"})
    monkeypatch.setattr(cluster, "facts", lambda: mine)
    there = real.versions["distributed"]
    assert f"the scheduler differs: distributed 2020.1.0 here, {there} there" in refused(scheduler.scheduler_address)


def test_workers_without_the_package_are_refused(scheduler: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ModuleNotFoundError("No module named 'timesenmap'")

    monkeypatch.setattr(cluster, "facts_as_dict", missing)
    message = refused(scheduler.scheduler_address)
    assert "cannot do tiles (ModuleNotFoundError: No module named 'timesenmap'); install timesenmap there" in message


def test_a_gpu_that_is_asked_for_must_be_there(
    scheduler: LocalCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "gpu.yaml"
    path.write_text(f"type: scheduler\naddress: {scheduler.scheduler_address}\ngpu: true\n")
    real = worker.facts()
    monkeypatch.setattr(worker, "facts", lambda: dataclasses.replace(real, device="cpu"))
    assert "gpu is asked for, and none of 2 workers has a GPU" in refused(str(path))


def test_workers_that_do_not_see_the_stores_are_refused(
    scheduler: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of one machine, or keys that only one machine has."""
    stores = Store.at(tmp_path)
    assert stores.write_new(OWNER, b"mine")

    def refused(stores: Store) -> None:
        raise MapError(f"--work {stores}: writing an object failed: access is refused")

    with open_cluster(scheduler.scheduler_address) as place:
        place.require_stores(stores)
        monkeypatch.setattr(cluster, "mark_of", lambda stores: None)
        with pytest.raises(
            MapError, match=r"worker tcp://.* does not see what is written there; name a folder that all"
        ):
            place.require_stores(stores)
        monkeypatch.setattr(cluster, "mark_of", refused)
        with pytest.raises(
            MapError, match=r"on worker tcp://.*: --work .*: writing an object failed: access is refused"
        ):
            place.require_stores(stores)


def test_all_tiles_are_encoded_alike() -> None:
    """One device and one precision for all workers, whatever each of them could do."""
    real = dataclasses.replace(worker.facts(), device="cpu", precision="bfloat16")
    slow, fast = dataclasses.replace(real, precision="float32"), dataclasses.replace(real, device="cuda")
    assert cluster._encoding({"a": real, "b": real}, set(), "c", gpu=False) == ("cpu", "bfloat16")
    assert cluster._encoding({"a": real, "b": slow}, set(), "c", gpu=False) == ("cpu", "float32")
    assert cluster._encoding({"a": slow, "b": fast}, {"GPU"}, "c", gpu=True) == ("cuda", "bfloat16")
    with pytest.raises(MapError, match="some workers have a GPU and others none; start those that have one with"):
        cluster._encoding({"a": slow, "b": fast}, set(), "c", gpu=False)


def test_a_worker_that_joins_later_and_differs_gets_no_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    real = worker.facts()
    monkeypatch.setattr(worker, "facts", lambda: dataclasses.replace(real, code="f" * 64))
    setup = worker.SetUp(real, None, 20)
    with LocalCluster(
        n_workers=1, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None
    ) as late, Client(late, set_as_default=False) as client:  # fmt: skip
        client.register_plugin(setup)
        outcome = client.submit(worker.do_tile, "any", None, frozenset(), pure=False).result()
        assert outcome.cause == "UnfitWorkerError"
        assert "timesenmap's code" in outcome.error
        monkeypatch.setattr(worker, "facts", lambda: real)
        client.register_plugin(setup)
        outcome = client.submit(worker.do_tile, "any", None, frozenset(), pure=False).result()
        assert "has not received the work" in outcome.error


def test_no_worker_in_time_is_a_failure(tmp_path: Path) -> None:
    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None) as empty:
        path = tmp_path / "cluster.yaml"
        path.write_text(f"type: scheduler\naddress: {empty.scheduler_address}\npatience: 0.5\n")
        with pytest.raises(ClusterError, match="no worker came within 0 s; look at the queue"), open_cluster(str(path)):
            pass


def test_the_same_maps_from_processes_as_from_this_one(place: Demonstration, tmp_path: Path) -> None:
    """And from two prompt sets, kept embeddings and another tile size."""
    flags = ["--aoi", place.aoi, "--catalog", place.catalog, "--year", place.year]
    flags += ["--prompts", "land-cover", "--probabilities", "--margin"]
    two = tmp_path / "two.yaml"
    two.write_text("type: local\nworkers: 2\nthreads: 1\n")
    for out, more in (("here", ["--tile-size", "64"]), ("two", ["--tile-size", "32", "--cluster", str(two)])):
        result = CliRunner().invoke(main, [*map(str, flags), *more, "--out", str(tmp_path / out)])
        assert result.exit_code == 0, result.output
    maps = {path.name: path.read_bytes() for path in (tmp_path / "here").glob("*.tif")}
    assert len(maps) == 5
    assert maps == {path.name: path.read_bytes() for path in (tmp_path / "two").glob("*.tif")}
    ledger = Ledger(tmp_path / "two" / "work" / "ledger.sqlite")
    with ledger._connect() as db:
        tiles = db.execute("SELECT stage, worker, profile FROM tile").fetchall()
    assert len(tiles) == 36
    assert all(worker.startswith("tcp://") for _, worker, _ in tiles)
    phases = {stage: profile for stage, _, profile in tiles}
    assert '"decoding"' in phases["cube"]
    assert '"encoding"' in phases["labels:land-cover"]
