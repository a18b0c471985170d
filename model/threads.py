"""One pool of CPU threads for all encoders of a process, each doing whole batches on its own.

Why not torch's own threads inside each product: with them MKL cuts a matrix by the number of threads, and a
row near a cut takes another kernel and gets other bits (seen on 2 threads: 140 of 700 pixels differed in
float32). A batch computed by one thread has the same bits on any number of cores, needs no barriers, and
several Dask threads that embed at once share this pool instead of multiplying their threads by torch's.
"""

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True)
class _Pool:
    executor: ThreadPoolExecutor
    threads: int


_lock = threading.Lock()
_state: dict[str, _Pool] = {}


def _single_threaded_pool(threads: int) -> ThreadPoolExecutor:
    """Pool whose threads use one thread each inside torch, leaving everybody else's setting as it is."""
    everyone_up = threading.Barrier(threads + 1)

    def start() -> None:
        # Holds for this thread, and becomes what threads begin with from now on: undone below. A thread
        # begins, and takes over that number, when it first asks; so ask before it is undone.
        torch.set_num_threads(1)
        torch.get_num_threads()
        everyone_up.wait()

    before = torch.get_num_threads()
    executor = ThreadPoolExecutor(threads, thread_name_prefix="timesenmap-encoder", initializer=start)
    for _ in range(threads):
        executor.submit(int)  # one thread starts with each task while none is idle: all wait at the barrier
    everyone_up.wait()
    torch.set_num_threads(before)
    return executor


def run_batches(task: Callable[[T], None], batches: Iterable[T]) -> None:
    """Call ``task(batch)`` for every batch, spread over as many threads as torch may use; raises its error."""
    threads = torch.get_num_threads()
    with _lock:
        pool = _state.get("pool")
        if pool is None or pool.threads != threads:
            # A superseded pool finishes what it was given; its threads end when it is collected.
            pool = _state["pool"] = _Pool(_single_threaded_pool(threads), threads)
        futures = [pool.executor.submit(task, batch) for batch in batches]
    for future in futures:
        future.result()


def _forget_pool() -> None:
    """In a forked child the threads are gone: begin anew."""
    global _lock  # noqa: PLW0603  (the inherited one may be held by a thread that no longer exists)
    _lock = threading.Lock()
    _state.clear()


os.register_at_fork(after_in_child=_forget_pool)
