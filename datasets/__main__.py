"""`python -m datasets`: write Larkmoor's tables at any scale."""

import argparse
import signal
import sys

from datasets.files import FORMATS, SMALL_SCALE, DatasetError, write
from datasets.schema import TABLES
from datasets.shop import ScaleError


def parser():
    """Return the command's argument parser."""
    made = argparse.ArgumentParser(
        prog="python -m datasets",
        description="Write the tables of Larkmoor, a fictional cheese shop. The same scale gives the same data on "
                    "every machine.",
        epilog=f"Tables: {', '.join(TABLES)}. Their meaning: book/data.md.",
    )
    made.add_argument("--out", required=True, metavar="DIR", help="directory to write to; made when it is not there")
    made.add_argument("--scale", default=SMALL_SCALE, metavar="N",
                      help="from 0.0001 to 10; 1 is ten million order lines (default: %(default)s)")
    made.add_argument("--only", nargs="+", metavar="TABLE", help="these tables only (default: all)")
    made.add_argument("--format", choices=FORMATS, default="parquet",
                      help="parquet: a directory of parts per table; csv: a file per table (default: %(default)s)")
    return made


def main():
    """Run the command; return its exit code: 0, 1 for an impossible request, 130 when interrupted."""
    arguments = parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that the partial table is removed
    try:
        rows = write(arguments.out, arguments.scale, arguments.only, arguments.format)
    except (DatasetError, ScaleError) as error:
        print(f"datasets: {error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("datasets: interrupted; the tables finished so far are kept.", file=sys.stderr)
        return 130
    for name, count in rows.items():
        print(f"{name:16}{count:>14,} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
