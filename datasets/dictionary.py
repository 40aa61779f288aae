"""The tables part of the data dictionary page, made from the schema and the committed checksums."""

from datasets.files import HERE, SMALL_SCALE, pinned_content
from datasets.schema import TABLES

PAGE = HERE.parent / "book" / "data.md"
BEGIN, END = "% tables: begin (python -m datasets.refresh writes what follows)\n", "% tables: end\n"


def tables_markdown():
    """Return the description of every table and column as MyST Markdown."""
    return "\n".join(_table_markdown(table) for table in TABLES.values())


def page_with_tables(page):
    """Return the text of the page with its tables part made anew."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + "\n" + tables_markdown() + "\n" + END + rest.split(END)[1]


def _table_markdown(table):
    small, full = (pinned_content()[scale][table.name]["rows"] for scale in (SMALL_SCALE, "1.0"))
    lines = [
        f"### {table.name}", "", table.meaning,
        f"Key: {', '.join(f'`{name}`' for name in table.key)}.",
        f"Rows: {small:,} at scale {SMALL_SCALE}, {full:,} at scale 1 ({table.grows}).", "",
        "| Column | Type | Meaning | Unit |", "|---|---|---|---|",
    ]
    lines += [f"| `{column.name}` | {column.type} | {_meaning(column)} | {column.unit} |" for column in table.columns]
    return "\n".join(lines) + "\n"


def _meaning(column):
    parts = [column.meaning]
    if column.values:
        parts.append("one of " + ", ".join(f"*{value}*" for value in column.values))
    if column.refers:
        parts.append(f"refers to `{column.refers}`")
    if column.nullable:
        parts.append("may be NULL")
    return "; ".join(parts)
