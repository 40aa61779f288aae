"""The build: what it executes again, what makes it fail, and what it leaves behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from tools import install

ROOT = Path(__file__).resolve().parent.parent
CONFIG = """
title: A throw-away book
only_build_toc_files: true
execute: {execute_notebooks: cache, timeout: 6}
sphinx: {local_extensions: {cachepath: book/_ext}}
"""


@pytest.fixture
def book(tmp_path):
    """Return a folder with a book of two small notebooks."""
    write(tmp_path / "_config.yml", CONFIG)
    write(tmp_path / "_toc.yml", "{format: jb-book, root: index, chapters: [{file: notebooks/one}, {file: notebooks/two}]}")
    write(tmp_path / "index.md", "# Index\n")
    write(tmp_path / "minicloud/engine.py", "VERSION = 1\n")
    write(tmp_path / "tools/fingerprint.py", (ROOT / "tools/fingerprint.py").read_text())
    write(tmp_path / "book/_ext/cachepath.py", (ROOT / "book/_ext/cachepath.py").read_text())
    notebook(tmp_path / "notebooks/one.ipynb", "1 + 1")
    notebook(tmp_path / "notebooks/two.ipynb", "print('the answer is', 6 * 7)")
    return tmp_path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def notebook(path, *cells):
    """Write a notebook of a heading and these code cells."""
    path.parent.mkdir(exist_ok=True)
    v4 = nbformat.v4
    cells = [v4.new_markdown_cell(f"# {path.stem.capitalize()}"), *(v4.new_code_cell(cell) for cell in cells)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


def build(book):
    """Build the book as `make book` does, with temporary files of its own; return the finished process."""
    command, environment = [sys.executable, "-m", "tools.build", book], os.environ | {"TMPDIR": str(book)}
    return subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True)


def states(done):
    """Return the last state that a build printed for each notebook."""
    lines = [line.split() for line in done.stdout.splitlines()]
    return {Path(words[0]).stem: words[1] for words in lines if words and words[0].endswith(".ipynb")}


def test_only_what_changed_is_executed(book):
    """A second build executes nothing, a changed notebook is executed alone, a changed package executes all."""
    done = build(book)
    assert states(done) == {"one": "executed", "two": "executed"}, done.stdout + done.stderr
    assert "the answer is 42" in (book / "_build/html/notebooks/two.html").read_text()
    assert states(build(book)) == {"one": "unchanged", "two": "unchanged"}

    notebook(book / "notebooks/two.ipynb", "print('the answer was', 6 * 7)")
    assert states(build(book)) == {"one": "unchanged", "two": "executed"}
    assert "the answer was 42" in (book / "_build/html/notebooks/two.html").read_text()

    write(book / "minicloud/engine.py", "VERSION = 2\n")
    assert states(build(book)) == {"one": "executed", "two": "executed"}
    assert len(list((book / "_build/.jupyter_cache").iterdir())) == 1, "the outputs of earlier states are removed"


def test_plain_jupyter_book_finds_the_outputs(book):
    """`jupyter-book build .` after the build executes nothing: both agree on the cache."""
    notebook(book / "notebooks/one.ipynb", "open('runs', 'a').write('x')")
    assert build(book).returncode == 0
    shutil.rmtree(book / "_build/html")
    shutil.rmtree(book / "_build/.doctrees")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", book]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    assert (book / "notebooks/runs").read_text() == "x"


@pytest.mark.parametrize("cell, said", [
    ("x = 1\n1 / 0", "ZeroDivisionError: division by zero"),
    ("from minicloud import claim\nclaim('rds-multiaz-sync', False, 'no')", "ClaimError: rds-multiaz-sync"),
    ("import os\nos._exit(1)", "the kernel died"),
    ("import time\ntime.sleep(60)", "the cell ran longer than 6 seconds"),
])
def test_a_failing_cell_fails_the_build(book, cell, said):
    """A cell error, a false claim, a dead kernel or a cell without end fails the build, which shows the cell."""
    notebook(book / "notebooks/two.ipynb", "'before'", cell)
    done = build(book)
    assert done.returncode == 1
    assert states(done) == {"one": "executed", "two": "FAILED"}
    assert "two.ipynb, cell [2]:" in done.stderr and said in done.stderr
    assert "    | " + cell.splitlines()[-1] in done.stderr
    assert len(done.stderr.splitlines()) < 20


def test_a_sphinx_warning_fails_the_build_until_it_is_mended(book):
    """A warning fails the build, and again the next time although Sphinx then finds no changed page."""
    write(book / "index.md", "# Index\n\n[](nowhere)\n")
    for _ in range(2):
        done = build(book)
        assert done.returncode == 1 and "'nowhere'" in done.stderr
    write(book / "index.md", "# Index\n")
    assert build(book).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_no_kernel(book, number):
    """Ctrl-C or SIGTERM ends the build in seconds and every kernel with it."""
    for name in ("one", "two"):
        notebook(book / f"notebooks/{name}.ipynb", "import time\ntime.sleep(60)")
    running = subprocess.Popen([sys.executable, "-m", "tools.build", book], cwd=ROOT, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not (kernels := psutil.Process(running.pid).children(recursive=True)) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)
    running.send_signal(number)
    assert running.wait(timeout=15) == 130
    assert kernels and not psutil.wait_procs(kernels, timeout=5)[1]
    assert b"Interrupted" in running.stderr.read()


def test_without_root_one_sentence_names_what_to_install(monkeypatch):
    """Where the set-up may not install system packages, it stops with one sentence that names all that are missing."""
    monkeypatch.setattr(install.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(install.os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit) as stop:
        install.system_packages(["binder/apt.txt", "tests/apt.txt"])
    packages = "mariadb-server-core mariadb-backup mariadb-client-core chromium"
    assert f"sudo apt-get install --no-install-recommends {packages}" in str(stop.value)
    assert str(stop.value).count(". ") == 0 and str(stop.value).endswith(".")


def test_what_notebooks_leave_behind_fails_the_build(book):
    """A run directory that outlives the kernel that made it fails the build, which names it."""
    notebook(book / "notebooks/two.ipynb", "from minicloud import rundir\nrundir.create()")
    done = build(book)
    assert done.returncode == 1 and "left something behind:\nrun directory" in done.stderr, done.stdout + done.stderr
