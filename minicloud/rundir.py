"""The run directory: everything the local cloud writes lives in one private directory, gone when the cloud is."""

import contextlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import psutil

from minicloud import platforms

PREFIX = "minicloud-"
NEEDED_BYTES = 1_000_000_000  # a Multi-AZ instance with its backups takes a tenth of it; PostgreSQL PANICs on a full disk


class NotEnoughDisk(OSError):
    """There is too little free disk for databases to run safely."""


def create(kernel: int | None = None) -> Path:
    """Make and return a private run directory that names this process and the kernel it serves, if any.

    The directories of dead owners are swept first. Raises NotEnoughDisk.
    """
    sweep()
    base = Path(tempfile.gettempdir())
    free = shutil.disk_usage(base).free
    if free < NEEDED_BYTES:
        raise NotEnoughDisk(f"The local cloud needs {NEEDED_BYTES / 1e9:.0f} GB of free disk under {base} and found "
                            f"{free / 1e9:.2f} GB. Free some, or set TMPDIR to a directory on another disk.")
    path = platforms.give_to_engine(Path(tempfile.mkdtemp(prefix=PREFIX, dir=base)))
    (path / "owner.json").write_text(json.dumps([_identity(pid) for pid in (os.getpid(), kernel) if pid]))
    return path


def sweep() -> list[Path]:
    """Delete the run directories whose cloud process is gone, with the shared memory they name; return them."""
    stale = [path for path in existing() if not _owner_lives(path)]
    for path in stale:
        remove(path)
    return stale


def existing() -> list[Path]:
    """Return the run directories that are ours; one without a named owner only when it is a minute old."""
    account = platforms.engine_account()
    ours = {os.geteuid(), account.pw_uid if account else os.geteuid()}
    found = []
    for path in Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        with contextlib.suppress(OSError):  # gone meanwhile
            about = path.stat()
            mine = path.is_dir() and about.st_uid in ours
            if mine and ((path / "owner.json").exists() or time.time() - about.st_mtime > 60):
                found.append(path)
    return found


def remove(path: Path) -> None:
    """Delete a run directory, and the System V segments of PostgreSQL servers that died by SIGKILL in it."""
    for pid_file in path.glob("*/data/postmaster.pid"):
        release_shared_memory(pid_file)
    for _ in range(20):  # a thread at work may still be making a directory
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
        time.sleep(0.05)


def release_shared_memory(pid_file: Path) -> None:
    """Remove the segment a dead postmaster left: line 7 of postmaster.pid holds its key and id."""
    try:
        segment = int(pid_file.read_text().splitlines()[6].split()[1])
    except (OSError, IndexError, ValueError):
        return
    platforms.remove_shared_memory(segment)


def _owner_lives(path: Path) -> bool:
    """Say whether all the processes that a run directory names are still there."""
    try:
        owners = json.loads((path / "owner.json").read_text())
    except (OSError, ValueError):
        return False
    return all(_identity(owner["pid"]) == owner for owner in owners)


def _identity(pid: int) -> dict:
    """Return what tells a process from a later one of the same number; "started" is None when it is gone."""
    try:
        return {"pid": pid, "started": psutil.Process(pid).create_time()}
    except psutil.Error:
        return {"pid": pid, "started": None}


def leftovers() -> list[str]:
    """Return a line for everything that outlived its owner: run directories, processes at work in one, shared memory."""
    dead = [path for path in existing() if not _owner_lives(path)]
    lines = [f"run directory {path}" for path in dead]
    places = Path(tempfile.gettempdir()) / PREFIX
    for process in psutil.process_iter(["pid", "name", "cwd"]):
        cwd = process.info["cwd"] or ""
        run = Path(cwd.removesuffix(" (deleted)"))
        if cwd.startswith(str(places)) and not _owner_lives(_run_of(run)):
            lines.append(f"process {process.info['pid']} {process.info['name']} in {cwd}")
    return lines + platforms.shared_memory_left()


def _run_of(path: Path) -> Path:
    """Return the run directory that `path` lies in."""
    while not path.name.startswith(PREFIX):
        path = path.parent
    return path
