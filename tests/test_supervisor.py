"""However its owner ends, the local cloud leaves nothing: no process, no run directory, no shared memory."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from conftest import until
from jupyter_client import KernelManager

from minicloud import platforms

TIMES = 10

# What a notebook does first: a cloud with a database.
CELL = textwrap.dedent("""
    import os, secrets, boto3
    from minicloud import connect
    cloud = connect()
    rds = boto3.client("rds")
    rds.create_db_instance(DBInstanceIdentifier="db", Engine="postgres", DBInstanceClass="db.t4g.micro",
                           AllocatedStorage=20, BackupRetentionPeriod=0, MasterUsername="shopadmin",
                           MasterUserPassword=secrets.token_urlsafe(16))
    rds.get_waiter("db_instance_available").wait(DBInstanceIdentifier="db")
""")


class Kernel:
    """A Jupyter kernel with a local cloud in it, and what belongs to that cloud."""

    def __init__(self):
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel()
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        self.do(CELL)
        self.run = Path(self.value("cloud.run"))
        self.cloud = psutil.Process(int(self.value("cloud._process.pid")))
        self.processes = [self.cloud, *self.cloud.children(recursive=True)]

    def do(self, code: str, wait: bool = True) -> None:
        """Run a cell; with `wait`, to its end, which must be without an error."""
        if wait:
            reply = self.client.execute_interactive(code, timeout=120, output_hook=lambda _: None)
            assert reply["content"]["status"] == "ok", reply["content"]
        else:
            self.client.execute(code)

    def value(self, expression: str) -> str:
        """Return what an expression in the kernel prints."""
        reply = self.client.execute_interactive("", user_expressions={"x": f"str({expression})"}, timeout=60)
        return reply["content"]["user_expressions"]["x"]["data"]["text/plain"].strip("'")

    def pid(self) -> int:
        return int(self.value("os.getpid()"))

    def leaves_nothing(self) -> None:
        """Wait until every process of the cloud and its run directory are gone."""
        until(lambda: not any(p.is_running() and p.status() != "zombie" for p in self.processes), "its processes are gone")
        until(lambda: not self.run.exists(), "its run directory is gone")

    def end(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


def kill(kernel: Kernel) -> None:
    os.kill(kernel.pid(), signal.SIGKILL)


def terminate(kernel: Kernel) -> None:
    os.kill(kernel.pid(), signal.SIGTERM)


def restart(kernel: Kernel) -> None:
    kernel.manager.restart_kernel(now=False)


def crash_in_a_cell(kernel: Kernel) -> None:
    kernel.do("import ctypes; ctypes.string_at(0)", wait=False)


def die_with_a_forked_child(kernel: Kernel) -> None:
    """The child keeps the pipe to the cloud open, so that only the kernel's own end can tell."""
    child = int(kernel.value("(lambda pid: pid or (__import__('time').sleep(60), os._exit(0)))(os.fork())"))
    try:
        os.kill(kernel.pid(), signal.SIGKILL)
        kernel.leaves_nothing()
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("ending", [kill, terminate, restart, crash_in_a_cell, die_with_a_forked_child])
def test_nothing_is_left_when_the_kernel_ends(ending):
    """Ten kernels with a running database each, two at a time, ended in one way: nothing of their clouds is left."""

    def once(_):
        kernel = Kernel()
        try:
            ending(kernel)
            kernel.leaves_nothing()
        finally:
            kernel.end()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(once, range(TIMES)))


def test_nothing_is_left_when_the_cloud_itself_is_killed():
    """A cloud process lost to SIGKILL takes its engines along; the next cloud sweeps its directory and shared memory."""
    kernel = Kernel()
    segments = set(platforms.shared_memory_left())
    try:
        kernel.cloud.kill()
        until(lambda: not any(p.is_running() and p.status() != "zombie" for p in kernel.processes), "its engines are gone")
        kernel.do("cloud = connect()")
        assert not kernel.run.exists()
        assert set(platforms.shared_memory_left()) <= segments
    finally:
        kernel.end()


def test_an_interrupt_kills_no_database():
    """Interrupting a cell ten times leaves the databases of this kernel and the connection to them alone."""
    kernel = Kernel()
    try:
        before = [p.pid for p in kernel.cloud.children(recursive=True)]
        for _ in range(TIMES):
            kernel.do("import time; time.sleep(30)", wait=False)
            time.sleep(0.3)
            kernel.manager.interrupt_kernel()
            kernel.client.wait_for_ready(timeout=30)
        assert [p.pid for p in kernel.processes if p.is_running()] == [kernel.cloud.pid, *before]
        kernel.do("assert cloud.resources()[0]['state'] == 'available'")
    finally:
        kernel.end()


def test_two_kernels_do_not_disturb_each_other():
    """Two kernels have two clouds; the end of one leaves the other's database running."""
    first, second = Kernel(), Kernel()
    try:
        assert first.run != second.run
        first.end()
        first.leaves_nothing()
        second.do("assert cloud.resources()[0]['state'] == 'available'")
    finally:
        second.end()
    second.leaves_nothing()


def test_the_foreground_cloud_ends_at_ctrl_c():
    """`python -m minicloud` prints export lines that work, and Ctrl-C ends it with everything in it."""
    process = subprocess.Popen([sys.executable, "-m", "minicloud"], stdout=subprocess.PIPE, text=True)
    exports = {}
    for line in process.stdout:
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").strip().partition("=")
            exports[name] = value
        else:
            break
    listed = subprocess.run([Path(sys.executable).with_name("aws"), "dynamodb", "list-tables"],
                            text=True, capture_output=True, env=os.environ | exports)
    assert '"TableNames": []' in listed.stdout, listed.stderr
    run = Path(exports["AWS_DATA_PATH"]).parent
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert not run.exists()
