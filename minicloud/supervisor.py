"""The supervisor: every process of the local cloud is forked, watched, reaped and, at the end, killed here.

It runs in the main thread of the cloud process, because the kernel ties a child's parent-death signal to the *thread*
that forked it. Other threads ask for a process with `spawn` or `run` and get it back.
"""

import contextlib
import os
import queue
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from minicloud import platforms


class ProgramFailed(RuntimeError):
    """A program ended with an error; the message holds its name, exit status and last words."""


class Process:
    """A child process. Only the supervisor reaps it; everybody else reads `status` or waits."""

    def __init__(self, popen: subprocess.Popen):
        self.pid = popen.pid
        self.stdin, self.stdout = popen.stdin, popen.stdout
        self._on_exit: Callable[[int], None] | None = None
        self.popen = popen
        self._ended = threading.Event()
        self._lock = threading.Lock()

    @property
    def status(self) -> int | None:
        """The exit status (negative: the signal that killed it), or None while it runs."""
        return self.popen.returncode if self._ended.is_set() else None

    def wait(self, seconds: float) -> bool:
        """Wait for the end; say whether it came within `seconds`."""
        return self._ended.wait(seconds)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill_tree(self) -> None:
        """SIGKILL it and all its descendants at once, as a lost host would; return when it is dead."""
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.pid)
            family = [parent, *parent.children(recursive=True)]
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            psutil.wait_procs(family[1:], timeout=5)
        self.wait(5)

    def notify(self, on_exit: Callable[[int], None] | None) -> None:
        """Call `on_exit(status)` in a thread of its own when the process ends, or now if it has; None: tell nobody."""
        with self._lock:
            self._on_exit = on_exit
            if self._ended.is_set():
                self._tell()

    def reap(self) -> None:
        """Collect the exit status of the ended child."""
        self.popen.wait()
        with self._lock:
            self._ended.set()
            self._tell()

    def _tell(self) -> None:
        on_exit, self._on_exit = self._on_exit, None
        if on_exit:
            threading.Thread(target=on_exit, args=(self.status,), daemon=True).start()


class Supervisor:
    """Owns the child processes and waits for the end of the owner (the notebook kernel), a signal, or `shutdown`."""

    def __init__(self, owner_pid: int | None = None, owner_pipe: int | None = None):
        self._requests: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._children: dict[int, Process] = {}
        self._owner_pid = owner_pid
        self._ending = False
        self._wake_reader, self._wake_writer = os.pipe()
        for end in (self._wake_reader, self._wake_writer):
            os.set_blocking(end, False)
        self._poll_seconds: float | None = None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_reader, selectors.EVENT_READ, "wake")
        self._watch_owner(owner_pipe)
        self._install_signals()
        platforms.adopt_orphans()

    def _watch_owner(self, owner_pipe: int | None) -> None:
        # Both are needed: a forked child of the kernel keeps the pipe open, and macOS has no process handle.
        if owner_pipe is not None:
            self._selector.register(owner_pipe, selectors.EVENT_READ, "owner")
        if self._owner_pid is not None:
            handle = platforms.process_handle(self._owner_pid)
            if handle is None:
                self._poll_seconds = 0.5  # look for the owner now and then
            else:
                self._selector.register(handle, selectors.EVENT_READ, "owner")

    def _install_signals(self) -> None:
        # A reader who interrupts a cell sends SIGINT to everything in the kernel's group: databases must not notice.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN if self._owner_pid else self._on_end_signal)
        signal.signal(signal.SIGTERM, self._on_end_signal)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)

    def _on_end_signal(self, *_):
        self._ending = True

    # For any thread

    def spawn(self, argv: list, *, log: Path, death_signal: signal.Signals = signal.SIGKILL, as_engine: bool = True,
              stdin=subprocess.DEVNULL, stdout=None, env: dict[str, str] | None = None,
              cwd: Path | None = None) -> Process:
        """Start a process in its own session and return it.

        It gets `death_signal` when the cloud process dies. Its output is appended to the file `log`. As root, it runs
        under the engines' account unless `as_engine` is false.
        """
        account = platforms.engine_account() if as_engine else None
        result: queue.SimpleQueue = queue.SimpleQueue()

        def fork():
            try:
                with open(log, "ab") as out:
                    child = subprocess.Popen(
                        [str(a) for a in argv], stdin=stdin, stdout=stdout or out, stderr=out,
                        start_new_session=True, close_fds=True, cwd=cwd or log.parent,
                        env=_child_environment() | (env or {}),
                        user=account and account.pw_uid, group=account and account.pw_gid,
                        extra_groups=[] if account else None, preexec_fn=platforms.die_with_parent(death_signal))
            except BaseException as error:
                result.put(error)
                return
            process = self._children[child.pid] = Process(child)
            result.put(process)

        if threading.current_thread() is threading.main_thread():
            fork()
        else:
            self._requests.put(fork)
            self._wake()
        child = result.get(timeout=30)
        if isinstance(child, BaseException):
            raise child
        return child

    def run(self, argv: list, *, log: Path, timeout: float = 120, **options) -> None:
        """Run a program to its end. Raises ProgramFailed with its last words, also when `timeout` seconds pass."""
        begin = log.stat().st_size if log.exists() else 0
        child = self.spawn(argv, log=log, **options)
        if not child.wait(timeout):
            child.kill_tree()
            raise ProgramFailed(f"{Path(argv[0]).name} did not end within {timeout:.0f} s. {tail(log, begin)}")
        if child.status:
            raise ProgramFailed(f"{Path(argv[0]).name} ended with status {child.status}. {tail(log, begin)}")

    def kill_strays(self, directory: Path) -> None:
        """Kill the adopted processes at work in `directory`: children of a server that died and have not noticed yet."""
        for process in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if process.pid not in self._children and Path(process.cwd()).is_relative_to(directory):
                    process.kill()
                    process.wait(5)

    def shutdown(self) -> None:
        """Ask for the end; `serve` returns when everything is gone."""
        self._ending = True
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_writer, b"\0")

    # The main thread

    def serve(self) -> str:
        """Fork, watch and reap until the end is asked for; return why it came: 'owner' or 'asked'."""
        why = "asked"
        while not self._ending:
            for key, _ in self._selector.select(self._poll_seconds):
                if key.data == "owner" and self._owner_is_gone(key.fd):
                    self._ending, why = True, "owner"
                elif key.data == "wake":
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake_reader, 4096)
            if self._poll_seconds and not platforms.is_alive(self._owner_pid):
                self._ending, why = True, "owner"
            while not self._requests.empty():
                self._requests.get()()
            self._reap()
        return why

    def _owner_is_gone(self, fd: int) -> bool:
        try:
            return os.read(fd, 1) == b""  # the pipe's end
        except OSError:
            return True  # a process handle cannot be read: it became readable because the process ended

    def _reap(self) -> None:
        while pid := platforms.ended_child(child.popen for child in self._children.values()):
            child = self._children.pop(pid, None)
            if child:
                child.reap()
            else:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)  # an adopted orphan; psutil, waiting for it elsewhere, may have been first

    def kill_everything(self) -> None:
        """Kill all descendants, adopted ones too, and reap them."""
        for child in self._children.values():
            child.notify(None)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            left = psutil.Process().children(recursive=True)
            if not left:
                return
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.02)
            self._reap()


def tail(log: Path, begin: int = 0, lines: int = 8) -> str:
    """Return the last `lines` lines of a log from byte `begin` on, as a sentence for an error message."""
    try:
        with open(log, "rb") as file:
            file.seek(max(begin, log.stat().st_size - 8192))
            last = file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        last = []
    return ("Its last log lines: " + " | ".join(last)) if last else "It logged nothing."


def _child_environment() -> dict[str, str]:
    """Return an environment that lets no setting of the reader's (locale, PG*, AWS_*) reach an engine."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {"LC_ALL": "C.UTF-8", "TZ": "UTC"}
