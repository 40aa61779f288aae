"""Build the book: execute what changed, render the site, and see that nothing is left running.

usage: python -m tools.build [ROOT]
"""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import yaml
from sphinx_external_toc.parsing import parse_toc_yaml

from tools.execute import Failure, execute
from tools.fingerprint import cache_path, digest

# What Sphinx does not look at when it decides which pages to render again.
SITE_INPUTS = ("_config.yml", "_toc.yml", "book/_ext", "book/_assets", "book/_templates", "tools/fingerprint.py")


class BuildError(Exception):
    """What went wrong, in words for the person who runs the build."""


def main() -> int:
    """Build the book in the folder given as argument (default: here); return the exit code."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    try:
        build(root)
    except BuildError as error:
        print(f"\nThe book was not built.\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted: the kernels are shut down, nothing was built.", file=sys.stderr)
        return 130
    return 0


def build(root: Path) -> None:
    """Execute the notebooks and render the site of the book at `root` into _build/html; raise BuildError."""
    logs = root / "_build" / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    _prune(cache_path(root))
    before = _leftovers()
    failures = execute(_notebooks(root), cache_path(root), logs, _timeout(root), _report(root))
    if failures:
        raise BuildError("\n".join(_describe(failure, root) for failure in failures))
    _render(root)
    _check_nothing_left(before)
    print("The book is in _build/html/index.html")


def _notebooks(root: Path) -> list[Path]:
    """Return the notebooks named in _toc.yml that are to be executed, in its order."""
    pages = [page.removesuffix(".ipynb") for page in parse_toc_yaml(root / "_toc.yml")]
    return [path for page in pages if (path := root / f"{page}.ipynb").exists() and _is_executed(path)]


def _is_executed(path: Path) -> bool:
    """Tell whether a notebook is to be executed: MyST-NB's own switch in its metadata is not off."""
    metadata = nbformat.read(path, as_version=4).metadata
    return metadata.get("mystnb", {}).get("execution_mode") != "off"


def _timeout(root: Path) -> float | None:
    """Return the seconds that _config.yml gives each cell; like in jupyter-book 30 by default, and none if negative."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    seconds = config.get("execute", {}).get("timeout", 30)
    return seconds if seconds >= 0 else None


def _prune(current: Path) -> None:
    """Remove the outputs of earlier states of the project."""
    for other in current.parent.glob("*"):
        if other != current:
            shutil.rmtree(other) if other.is_dir() else other.unlink()


def _report(root: Path):
    """Return a function that prints one line for a notebook's new state."""

    def report(notebook: Path, state: str, seconds: float) -> None:
        duration = f"{seconds:7.1f} s" if seconds else ""
        print(f"{notebook.relative_to(root).as_posix():<36} {state:<10}{duration}".rstrip(), flush=True)

    return report


def _describe(failure: Failure, root: Path) -> str:
    """Return the failing cell and its error."""
    source = "\n".join(f"    | {line}" for line in failure.source.splitlines())
    return (
        f"\n{failure.notebook.relative_to(root).as_posix()}, cell [{failure.cell}]:\n{source}\n"
        f"  {failure.error}\n  Traceback: {failure.log.relative_to(root).as_posix()}"
    )


def _render(root: Path) -> None:
    """Run jupyter-book with every warning an error; it takes the notebooks' outputs from the cache."""
    build = root / "_build"
    stamp, state = build / "site-inputs", digest(root, SITE_INPUTS)
    if not stamp.exists() or stamp.read_text() != state:
        _forget(root)
    stamp.write_text(state)
    log = build / "logs" / "jupyter-book.log"
    command = [Path(sys.executable).with_name("jupyter-book"), "build", str(root), "-W", "-n", "--keep-going"]
    start = time.perf_counter()
    with log.open("w", encoding="utf-8") as output:
        status = subprocess.run(command, check=False, cwd=root, stdout=output, stderr=subprocess.STDOUT).returncode
    if status != 0:
        _forget(root)  # a second build would find the pages unchanged, and pass
        raise BuildError(f"{_complaints(log.read_text(encoding='utf-8'))}\n  All output: {log.relative_to(root)}")
    print(f"{'_build/html':<36} {'rendered':<10}{time.perf_counter() - start:7.1f} s", flush=True)


def _forget(root: Path) -> None:
    """Remove the site and what Sphinx remembers of it."""
    for name in ("html", ".doctrees"):
        shutil.rmtree(root / "_build" / name, ignore_errors=True)


def _complaints(log: str) -> str:
    """Return Sphinx's warnings and errors, or the end of the log if there is none."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", log).splitlines()
    return "\n".join([line for line in lines if re.search(r"\b(WARNING|ERROR|CRITICAL):", line)] or lines[-20:])


def _check_nothing_left(before: set[str]) -> None:
    """Raise BuildError if an engine, a run directory or shared memory outlives its kernel by more than 10 seconds."""
    deadline = time.monotonic() + 10
    while left := _leftovers() - before:
        if time.monotonic() > deadline:
            raise BuildError("The notebooks left something behind:\n" + "\n".join(sorted(left)))
        time.sleep(0.5)


def _leftovers() -> set[str]:
    """Return what `python -m minicloud check` finds on this machine: one line for each thing without an owner."""
    check = subprocess.run([sys.executable, "-m", "minicloud", "check"], check=False, capture_output=True, text=True)
    if check.returncode != 0 and not check.stdout:
        raise BuildError(f"`python -m minicloud check` failed:\n{check.stderr}")
    return set(check.stdout.splitlines()) if check.returncode != 0 else set()


if __name__ == "__main__":
    sys.exit(main())
