"""Fingerprints of the files that decide what is rebuilt.

jupyter-cache compares a notebook's code cells only. The outputs also depend on the local cloud, the packages, the data
and the claims: their fingerprint is part of the cache's path, so that a change of any of them executes all notebooks.
"""

import hashlib
import sys
from pathlib import Path

EXECUTION_INPUTS = ("minicloud", "datasets", "requirements.txt", "book/claims.yml", "notebooks/exercises/checks")


def fingerprint(root: Path) -> str:
    """Return 16 hex digits for all that notebook outputs depend on besides the notebooks' own code cells."""
    return digest(root, EXECUTION_INPUTS)


def cache_path(root: Path) -> Path:
    """Return the jupyter-cache folder that belongs to the present state of `root`."""
    return root / "_build" / ".jupyter_cache" / fingerprint(root)


def digest(root: Path, names) -> str:
    """Return 16 hex digits for the names and contents of these files and folders (relative to `root`), and Python."""
    total = hashlib.sha256("Python {}.{}".format(*sys.version_info).encode())
    for path in sorted(path for name in names for path in _files(root / name)):
        content = path.read_bytes()
        total.update(f"\n{path.relative_to(root).as_posix()} {len(content)}\n".encode())
        total.update(content)
    return total.hexdigest()[:16]


def _files(top: Path):
    """Yield the files at or under `top`, without hidden files and what Python compiled."""
    candidates = top.rglob("*") if top.is_dir() else [top]
    for path in candidates:
        inner = path.relative_to(top).parts
        if path.is_file() and "__pycache__" not in inner and not any(part.startswith(".") for part in inner):
            yield path
