"""Larkmoor, a fictional cheese shop: the data that every chapter uses.

    from datasets import load, write
    orders = load("orders")                             # the small committed data, a pandas DataFrame
    write("shop", scale=1, only=["order_lines"])        # ten million order lines, as Parquet

What the tables mean is on the book's page "The shop's data" (book/data.md). Hugging Face's package has the same name;
this book does not use it.
"""

from datasets.files import DatasetError, load, write
from datasets.shop import ScaleError

__all__ = ["DatasetError", "ScaleError", "load", "write"]
