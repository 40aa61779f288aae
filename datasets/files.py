"""The shop in files: read the committed small ones, write them at any scale.

A table is written to a hidden directory beside its place and moved there when it is complete, so that an interrupted
run leaves whole tables or nothing.

`manifest.json` in the output directory says what is there: scale, format, and of each table the rows, the files and a
SHA-256 of the *content*. It is taken over the columns as the generator made them and so does not depend on the file
format, on the version of the library that wrote the file, or on the size of the parts.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from tqdm import tqdm

from datasets.schema import TABLES
from datasets.shop import Shop, generate

HERE = Path(__file__).parent
SMALL = HERE / "small"
SMALL_SCALE = "0.001"
FORMATS = ("parquet", "csv")

MEGABYTES_AT_SCALE_1 = {  # (parquet, csv), measured and rounded up; the other tables are small at any scale
    "customers": (7, 40), "loyalty_scores": (3, 10), "sessions": (110, 700), "page_views": (270, 2300),
    "carts": (40, 230), "cart_items": (80, 550), "orders": (30, 150), "order_lines": (30, 220),
    "fridge_readings": (7, 110),
}
SPARE_MEGABYTES = 20
PROGRESS = "{desc} {percentage:3.0f}% |{bar}| {elapsed}, {remaining} left"  # shown when a table takes over two seconds


class DatasetError(Exception):
    """A request that cannot be met; the message says what was wrong and what to do."""


def load(name):
    """Return the small committed table `name` as a DataFrame: whole numbers, text, floats, timestamps in UTC."""
    table = _table(name)
    dtypes = {"BIGINT": "int64", "INTEGER": "int64", "VARCHAR": "str", "DOUBLE": "float64"}
    frame = pd.read_csv(SMALL / f"{name}.csv", dtype={
        column.name: "Int64" if column.nullable else dtypes[column.type]
        for column in table.columns if column.type in dtypes
    })
    for column in table.columns:
        if column.type == "TIMESTAMP":
            frame[column.name] = pd.to_datetime(frame[column.name], utc=True).astype("datetime64[us, UTC]")
        if column.type == "DATE":
            frame[column.name] = pd.to_datetime(frame[column.name]).astype("datetime64[us]")
    return frame


def write(out, scale=SMALL_SCALE, only=None, format="parquet"):
    """Write the shop, or `only` some tables (a name or a list of names), to directory `out`; return {table: rows}.

    Parquet: `out`/orders/0000.parquet, 0001.parquet, …, timestamps without a zone, in UTC. CSV: `out`/orders.csv,
    timestamps end in Z, empty means NULL. A table that is there already at this scale is left as it is.
    """
    shop = Shop(scale)
    names = [_table(name).name for name in ([only] if isinstance(only, str) else only or TABLES)]
    if format not in FORMATS:
        raise DatasetError(f"there is no format {format!r}: choose parquet or csv")
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=out) as partial:
            manifest = _open_manifest(out, shop, format)
            missing = [name for name in names if not _is_there(out, manifest, name)]
            _check_room(out, shop, format, missing)
            for name in missing:
                _write_table(out, Path(partial), shop, name, manifest)
    except (OSError, duckdb.IOException) as error:
        why = getattr(error, "strerror", None) or error
        raise DatasetError(f"cannot write to {out}: {why}. "
                           "Name a directory that you may write to and that has room") from error
    return {name: manifest["tables"][name]["rows"] for name in names}


def digest(shop, name, step=None):
    """Return (rows, SHA-256 of the content) of table `name`, without writing it."""
    content = _Content(name)
    for _, rows in generate(shop, name, **({"step": step} if step else {})):
        content.add(rows)
    return content.rows, content.hexdigest()


class _Content:
    """The running SHA-256 of a table, one hash per column, so that the size of the parts does not matter."""

    def __init__(self, name):
        self.columns = {column.name: hashlib.sha256() for column in TABLES[name].columns}
        self.rows = 0

    def add(self, rows):
        for name, hash_ in self.columns.items():
            values = rows[name]
            if values.dtype.kind in "iuf":
                hash_.update(np.ascontiguousarray(values, "<f8" if values.dtype.kind == "f" else "<i8"))
            else:
                hash_.update("".join(f"{value}\n" for value in values).encode())
        self.rows += len(values)

    def hexdigest(self):
        return hashlib.sha256("".join(f"{n}:{h.hexdigest()}\n" for n, h in self.columns.items()).encode()).hexdigest()


def _table(name):
    if name not in TABLES:
        raise DatasetError(f"there is no table {name!r}: choose from {', '.join(TABLES)}")
    return TABLES[name]


def _frame(name, rows):
    """Return a part of a table as a DataFrame: words for codes, NULL for 0 where allowed, timestamps without a zone."""
    columns = {}
    for column in TABLES[name].columns:
        values = rows[column.name]
        if column.type in ("TIMESTAMP", "DATE"):
            values = values.astype("datetime64[s]")
        elif column.values:
            values = pd.Categorical.from_codes(values, column.values)
        elif column.nullable:
            values = pd.array(values, "Int64")
            values[rows[column.name] == 0] = pd.NA
        columns[column.name] = values
    return pd.DataFrame(columns)


def _write_table(out, partial, shop, name, manifest):
    """Generate a table into `partial`, move it into place and enter it in the manifest."""
    content = _Content(name)
    put = {"parquet": _put_parquet, "csv": _put_csv}[manifest["format"]]
    with tqdm(total=1, desc=name, delay=2, bar_format=PROGRESS) as bar:
        for part, (done, rows) in enumerate(generate(shop, name)):
            put(partial, name, part, _frame(name, rows))
            content.add(rows)
            bar.update(done - bar.n)
    _check_pinned(shop, name, content)
    target = name if manifest["format"] == "parquet" else f"{name}.csv"
    made = partial / target
    files = sorted(made.iterdir()) if made.is_dir() else [made]
    entry = {"rows": content.rows, "sha256": content.hexdigest(),
             "files": {str(file.relative_to(partial)): file.stat().st_size for file in files}}
    if (out / target).exists():
        os.replace(out / target, partial / f"{target}.old")
    os.replace(made, out / target)
    manifest["tables"] = {key: manifest["tables"].get(key) if key != name else entry
                          for key in TABLES if key == name or key in manifest["tables"]}
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    os.replace(partial / "manifest.json", out / "manifest.json")


def _put_parquet(partial, name, part, frame):
    (partial / name).mkdir(exist_ok=True)
    columns = ", ".join(f"CAST({column.name} AS {column.type}) AS {column.name}" for column in TABLES[name].columns)
    with duckdb.connect() as connection:
        connection.register("frame", frame)
        try:
            connection.sql(f"SELECT {columns} FROM frame").write_parquet(
                str(partial / name / f"{part:04}.parquet"), compression="zstd")
        except RuntimeError as error:  # DuckDB wraps what a signal handler raises: Ctrl-C, or the exit on SIGTERM
            raise error.__cause__ or error from None


def _put_csv(partial, name, part, frame):
    for column in TABLES[name].columns:
        if column.type == "TIMESTAMP":
            frame[column.name] = np.datetime_as_string(frame[column.name].to_numpy("datetime64[s]"), timezone="UTC")
        if column.type == "DATE":
            frame[column.name] = np.datetime_as_string(frame[column.name].to_numpy("datetime64[D]"))
    frame.to_csv(partial / f"{name}.csv", index=False, header=part == 0, mode="a", lineterminator="\n")


def _generator_version():
    """Return a short hash of the code that decides what the data are."""
    sources = (HERE / f"{name}.py" for name in ("bits", "catalogue", "schema", "shop"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]


def _open_manifest(out, shop, format):
    """Return what `out` holds; refuse to mix two scales, formats or generators in one directory."""
    manifest = {"scale": str(float(shop.scale)), "format": format, "generator": _generator_version(), "tables": {}}
    path = out / "manifest.json"
    if path.exists():
        try:
            found = json.loads(path.read_text())
            unlike = [f"{key} {found[key]}" for key in ("scale", "format", "generator") if found[key] != manifest[key]]
        except (ValueError, KeyError, TypeError):
            raise DatasetError(f"{path} is not a manifest of the shop: name another directory") from None
        if unlike:
            raise DatasetError(f"{out} holds the shop with {', '.join(unlike)}: name another directory, or delete it")
        return found
    return manifest


def _is_there(out, manifest, name):
    files = manifest["tables"].get(name, {}).get("files", {})
    return bool(files) and all((out / file).is_file() and (out / file).stat().st_size == size
                               for file, size in files.items())


def _check_room(out, shop, format, missing):
    free = shutil.disk_usage(out).free / 1e6
    each = [MEGABYTES_AT_SCALE_1.get(name, (0, 0))[FORMATS.index(format)] for name in missing]
    need = SPARE_MEGABYTES + float(shop.scale * sum(each))
    if missing and free < need:
        raise DatasetError(f"{out} has {free:,.0f} MB free, and scale {float(shop.scale):g} may need {need:,.0f} MB: "
                           "free some, or choose a smaller scale or fewer tables")


def _check_pinned(shop, name, content):
    """Compare a table's content with the checksum committed for this scale, if there is one."""
    pinned = pinned_content().get(str(float(shop.scale)), {}).get(name)
    if pinned and pinned != {"rows": content.rows, "sha256": content.hexdigest()}:
        raise DatasetError(f"table {name} at scale {float(shop.scale):g} is not what it was when its checksum was "
                           "committed (datasets/checksums.json): this machine computes something else, or the "
                           "generator was changed")


def pinned_content():
    """Return the committed checksums: {scale: {table: {"rows": …, "sha256": …}}}."""
    return json.loads((HERE / "checksums.json").read_text())
