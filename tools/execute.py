"""Execute the book's notebooks, several at a time, into jupyter-cache.

jupyter-book executes one notebook after the other; this uses all cores and leaves the outputs where jupyter-book looks
for them (`nb_execution_cache_path`). All kernels run under one asyncio loop, so one cancellation ends them all.
"""

import asyncio
import os
import signal
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError


@dataclass
class Failure:
    """Why a notebook did not run to its end: the cell (its number as Jupyter shows it, its source) and the error."""

    notebook: Path
    cell: int
    source: str
    error: str
    log: Path


def execute(notebooks: list[Path], cache_path: Path, logs: Path, timeout: float | None, report) -> list[Failure]:
    """Execute the notebooks that are not in the cache yet and put them there; return the failures.

    `timeout` is in seconds for each cell. What a kernel writes to its own standard error and the traceback of a failure
    go to a file in the folder `logs`. `report(notebook, state, seconds)` is called at each change of state.
    Interrupted by SIGINT or SIGTERM, it shuts the kernels down before it raises KeyboardInterrupt.
    """
    cache = get_cache(cache_path)
    waiting = []
    for path in notebooks:
        notebook = nbformat.read(path, as_version=4)
        if _is_cached(cache, notebook):
            report(path, "unchanged", 0)
        else:
            waiting.append((path, notebook))
    return _run_cancellable(_execute_all(waiting, cache, logs, timeout, report)) if waiting else []


def _is_cached(cache, notebook) -> bool:
    try:
        cache.match_cache_notebook(notebook)
    except KeyError:
        return False
    return True


async def _execute_all(waiting, cache, logs, timeout, report) -> list[Failure]:
    slots = asyncio.Semaphore(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())

    async def one(path, notebook):
        async with slots:
            report(path, "running", 0)
            start = time.perf_counter()
            failure = await _execute_one(path, notebook, logs / f"{path.stem}.log", timeout)
            seconds = time.perf_counter() - start
            if not failure:
                bundle = CacheBundleIn(notebook, str(path), data={"execution_seconds": seconds})
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
            report(path, "FAILED" if failure else "executed", seconds)
            return failure

    outcomes = await asyncio.gather(*(one(path, notebook) for path, notebook in waiting))
    return [failure for failure in outcomes if failure]


async def _execute_one(path: Path, notebook, log: Path, timeout: float | None) -> Failure | None:
    """Execute a notebook in place, in its own folder and with this Python's kernel."""
    number, source = 0, ""

    def remember(cell, cell_index):
        nonlocal number, source
        number, source = number + 1, cell.source

    with log.open("w", encoding="utf-8") as stderr:
        try:
            async with _kernel(path.parent, stderr) as (manager, channels):
                # record_timing would write into the cells' metadata, which jupyter-cache compares
                client = NotebookClient(
                    notebook, km=manager, timeout=timeout, record_timing=False, on_cell_execute=remember
                )
                client.kc = channels
                await client.async_execute()
        except (CellExecutionError, CellTimeoutError, RuntimeError) as error:
            if asyncio.current_task().cancelling():  # which nbclient takes for a dead kernel
                raise asyncio.CancelledError from error
            stderr.write(getattr(error, "traceback", str(error)))
            return Failure(path, number, source, _explain(error, timeout), log)
    return None


@asynccontextmanager
async def _kernel(folder: Path, stderr):
    """Yield a kernel's manager and its channels; shut it down at the end, also when it is cancelled while it starts.

    (nbclient's own start leaves the kernel running in that case.)
    """
    manager, channels = AsyncKernelManager(kernel_name="python3"), None
    try:
        await manager.start_kernel(cwd=str(folder), stderr=stderr)
        channels = manager.client()
        channels.start_channels()
        await channels.wait_for_ready(timeout=60)
        channels.allow_stdin = False
        yield manager, channels
    finally:
        if channels:
            channels.stop_channels()
        if manager.has_kernel:
            await manager.shutdown_kernel()


def _explain(error: Exception, timeout: float | None) -> str:
    """Return in a line or two what ended the notebook."""
    if isinstance(error, CellExecutionError):
        return f"{error.ename}: {error.evalue}"
    if isinstance(error, CellTimeoutError):
        return f"the cell ran longer than {timeout} seconds"
    return f"the kernel died: {error}"  # DeadKernelError while a cell ran, RuntimeError while it started


def _run_cancellable(work):
    """Run a coroutine to its end and return its result; on SIGINT or SIGTERM cancel it, wait, and raise.

    It runs in a thread because nbclient, in the main thread, puts its own signal handlers in place of these.
    """
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)
    thread = threading.Thread(target=_run_until_done, args=(loop, task))
    with _termination_as_interrupt():
        thread.start()
        try:
            thread.join()
        except KeyboardInterrupt:
            loop.call_soon_threadsafe(task.cancel)
            thread.join()
            raise
    return task.result()


def _run_until_done(loop, task):
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(asyncio.wait([task]))
    finally:
        loop.close()


@contextmanager
def _termination_as_interrupt():
    """Within it, SIGTERM raises KeyboardInterrupt as SIGINT does."""

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
