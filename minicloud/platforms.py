"""What differs between Linux, macOS and running as root: the one place for it."""

import ctypes
import functools
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

LINUX = sys.platform.startswith("linux")

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_IPC_RMID = 0
# Where a reader endpoint listens: at the port of the writer's, as on AWS, and so at another loopback address. macOS has
# one per protocol only.
READER_HOST = "127.0.0.2" if LINUX else "::1"

# Loaded at import: a forked child must not go looking for a library.
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(sig: signal.Signals):
    """Return a `preexec_fn` that makes the kernel send `sig` when the forking *thread* ends; None off Linux.

    The flag is lost when the child changes its user, so it has to be set after that: `Popen` calls
    `preexec_fn` last, which is the right order.
    """
    if not LINUX:
        return None
    return functools.partial(_libc.prctl, _PR_SET_PDEATHSIG, int(sig), 0, 0, 0)


def adopt_orphans() -> None:
    """Make this process the parent of its descendants' orphans, so that none can slip away (Linux)."""
    if LINUX:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def process_handle(pid: int) -> int | None:
    """Return a file descriptor that becomes readable when process `pid` ends, or None where there is no such thing."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def is_alive(pid: int) -> bool:
    """Say whether a process `pid` exists (of any user) and is not a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    if LINUX:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False
    return True


@functools.cache
def engine_account() -> pwd.struct_passwd | None:
    """Return the unprivileged account that engines run under when we are root, else None.

    PostgreSQL refuses to run as root. An account of the engine's own name is preferred, `nobody` is the fallback.
    """
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "mysql", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise OSError("minicloud runs as root and needs an unprivileged account for the database engines: "
                  "looked for postgres, mysql and nobody. Create one of them, or run as an ordinary user.")


def give_to_engine(path: Path) -> Path:
    """Make `path` (a file or directory we made) belong to the account the engines run under; return it."""
    account = engine_account()
    if account:
        os.chown(path, account.pw_uid, account.pw_gid)
    return path


def readable_by_engine(path: Path) -> bool:
    """Say whether the engines' account can reach `path`: as root, a home directory is closed to it."""
    if engine_account() is None:
        return True
    return all(os.stat(p).st_mode & stat.S_IXOTH for p in [path, *path.parents])


def remove_shared_memory(segment: int) -> None:
    """Remove the System V segment `segment`; nothing happens when it is gone already."""
    _libc.shmctl(segment, _IPC_RMID, None)


def shared_memory_left() -> list[str]:
    """Return a line for each System V segment that nobody is attached to and that belongs to us or our engines."""
    if not LINUX:
        return []
    owners = {os.geteuid(), engine_account().pw_uid if engine_account() else os.geteuid()}
    with open("/proc/sysvipc/shm") as table:
        names = next(table).split()
        rows = [dict(zip(names, line.split())) for line in table]
    return [f"shared memory segment {row['shmid']} of {row['size']} bytes"
            for row in rows if row["nattch"] == "0" and int(row["uid"]) in owners]


def ended_child(popens: Iterable[subprocess.Popen]) -> int | None:
    """Return the pid of a child that has ended and not been reaped: one of `popens`, or (Linux) an adopted orphan."""
    if hasattr(os, "waitid"):  # not on macOS before Python 3.13
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        return ended and ended.si_pid
    return next((popen.pid for popen in popens if popen.poll() is not None), None)


def find_program(*names: str, also: tuple[str, ...] = ()) -> Path | None:
    """Return the first of `names` found on PATH, in the usual sbin directories, or in the globbed directories `also`."""
    places = [os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"]
    for pattern in also:
        root = Path(pattern).anchor or "."
        places += sorted(map(str, Path(root).glob(str(Path(pattern).relative_to(root)))), reverse=True)
    for name in names:
        found = shutil.which(name, path=os.pathsep.join(places))
        if found:
            return Path(found)
    return None


def program_version(program: Path, option: str = "--version") -> str:
    """Return the first line that `program --version`, or another option, prints."""
    out = subprocess.run([program, option], capture_output=True, text=True, timeout=30)
    return (out.stdout or out.stderr).splitlines()[0]
