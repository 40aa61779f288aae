"""The run directory: everything the local cloud writes lives in one private directory, gone when the cloud is."""

import json
import os
import shutil
import tempfile
from pathlib import Path

from minicloud import platforms

PREFIX = "minicloud-"
NEEDED_BYTES = 1_000_000_000  # a Multi-AZ instance with its backups takes a tenth of it; PostgreSQL PANICs on a full disk


class NotEnoughDisk(OSError):
    """There is too little free disk for databases to run safely."""


def create() -> Path:
    """Make and return a private run directory that names its owner process, after sweeping those of dead owners."""
    sweep()
    base = Path(tempfile.gettempdir())
    free = shutil.disk_usage(base).free
    if free < NEEDED_BYTES:
        raise NotEnoughDisk(f"The local cloud needs {NEEDED_BYTES / 1e9:.0f} GB of free disk under {base} and found "
                            f"{free / 1e9:.2f} GB. Free some, or set TMPDIR to a directory on another disk.")
    path = platforms.give_to_engine(Path(tempfile.mkdtemp(prefix=PREFIX, dir=base)))
    (path / "owner.json").write_text(json.dumps({"pid": os.getpid(), "started": _started(os.getpid())}))
    return path


def sweep() -> list[Path]:
    """Delete the run directories whose cloud process is gone, with the shared memory they name; return them."""
    stale = [path for path in existing() if not _owner_lives(path)]
    for path in stale:
        remove(path)
    return stale


def existing() -> list[Path]:
    """Return the run directories of this user."""
    found = []
    for path in Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        try:
            mine = path.is_dir() and (path / "owner.json").stat().st_uid == os.geteuid()
        except OSError:
            continue
        if mine:
            found.append(path)
    return found


def remove(path: Path) -> None:
    """Delete a run directory, and the System V segments of PostgreSQL servers that died by SIGKILL in it."""
    for pid_file in path.glob("*/data/postmaster.pid"):
        release_shared_memory(pid_file)
    shutil.rmtree(path, ignore_errors=True)


def release_shared_memory(pid_file: Path) -> None:
    """Remove the segment a dead postmaster left: line 7 of postmaster.pid holds its key and id."""
    try:
        segment = int(pid_file.read_text().splitlines()[6].split()[1])
    except (OSError, IndexError, ValueError):
        return
    platforms.remove_shared_memory(segment)


def _owner_lives(path: Path) -> bool:
    try:
        owner = json.loads((path / "owner.json").read_text())
    except (OSError, ValueError):
        return False
    return platforms.is_alive(owner["pid"]) and _started(owner["pid"]) == owner["started"]


def _started(pid: int) -> float | None:
    """Return when a process started, so that a reused pid is not taken for the owner."""
    import psutil

    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None
