"""``map_shards``: one function over many arguments, results as they come."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import TypeVar

from ..kernel import OptionError

Shard = TypeVar("Shard")
Result = TypeVar("Result")

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def map_shards(
    work: Callable[[Shard], Result], shards: Sequence[Shard], processes: int = 1
) -> Iterator[tuple[Shard, Result]]:
    """Yield ``(shard, work(shard))`` as each is done, in no particular order.

    processes: 1 to work here; more to work in fresh processes of one thread each (``work`` and the
    shards must be importable and picklable). Ending the iteration early, Ctrl-C included, ends the
    processes. An exception of ``work`` is raised here.
    """
    if type(processes) is not int or processes < 1:
        raise OptionError(f"processes = {processes} must be at least 1")
    if processes == 1:
        for shard in shards:
            yield shard, work(shard)
        return
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))  # read once, when a process starts
    pool = ProcessPoolExecutor(
        min(processes, max(1, len(shards))),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_leave_interrupts_to_the_parent,
    )
    waiting: dict[Future[Result], Shard] = {}
    try:
        left = iter(shards)
        for shard in left:
            waiting[pool.submit(work, shard)] = shard
            if len(waiting) >= 2 * processes:
                break
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                shard = waiting.pop(future)
                result = future.result()
                for following in left:
                    waiting[pool.submit(work, following)] = following
                    break
                yield shard, result
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        running = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in running:
            process.terminate()


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
