"""`python -m datasets.refresh`: for whoever changes the generator. Takes one to two minutes.

Writes anew what is committed: the checksums, the small files, and the tables part of the data dictionary page.
"""

import json
import shutil
import tempfile
from pathlib import Path

from tqdm import tqdm

from datasets.dictionary import PAGE, page_with_tables
from datasets.files import HERE, SMALL, SMALL_SCALE, digest, write
from datasets.schema import TABLES
from datasets.shop import Shop

PINNED_SCALES = (SMALL_SCALE, "0.01", "1.0")


def main():
    """Recompute and rewrite all that is derived from the generator and committed."""
    pinned = {scale: {} for scale in PINNED_SCALES}
    for scale, name in tqdm([(scale, name) for scale in PINNED_SCALES for name in TABLES]):
        rows, sha256 = digest(Shop(scale), name)
        pinned[scale][name] = {"rows": rows, "sha256": sha256}
    (HERE / "checksums.json").write_text(json.dumps(pinned, indent=1) + "\n")
    with tempfile.TemporaryDirectory() as fresh:
        write(fresh, SMALL_SCALE, format="csv")
        shutil.rmtree(SMALL, ignore_errors=True)
        SMALL.mkdir()
        for file in Path(fresh).glob("*.csv"):
            shutil.copy(file, SMALL)
    PAGE.write_text(page_with_tables(PAGE.read_text()))


if __name__ == "__main__":
    main()
