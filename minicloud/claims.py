"""`claim()`: a notebook cell asserts one statement of the course and shows what it measured.

The statements are the rows of book/claims.yml; the page book/ledger.md links each of them to the cell that shows it.
"""

import difflib
import html
from functools import cache
from pathlib import Path

import yaml
from IPython.display import display

LEDGER = Path(__file__).resolve().parents[1] / "book" / "claims.yml"

# The four kinds of evidence and the sign of each, so that a badge can be told from another without colour.
EVIDENCE = {"real engine": "●", "model": "◐", "control plane": "○", "live only": "◇"}


class ClaimError(AssertionError):
    """A statement of the course did not hold in this run."""

    def _render_traceback_(self):
        """Return the lines that Jupyter shows: the sentence alone, as the traceback would hold only the cell itself."""
        return [f"ClaimError: {self}"]


@cache
def statements():
    """Return the rows of book/claims.yml by id, in its order. Raises FileNotFoundError where there is no book."""
    if not LEDGER.exists():
        raise FileNotFoundError(f"There is no ledger at {LEDGER}: install the book's clone with `pip install -e .`")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml reads the file in a tenth of the time
    rows = yaml.load(LEDGER.read_text(encoding="utf-8"), Loader=loader)
    return {row["id"]: row for row in rows}


def statement(id):
    """Return the row of the statement `id`. Raises LookupError, naming the nearest ids, if the ledger has none."""
    if id not in statements():
        near = difflib.get_close_matches(str(id), statements(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "its ids are listed on the book's ledger page."
        raise LookupError(f"The ledger book/claims.yml has no statement {id!r}: {hint}")
    return statements()[id]


def evidence(row):
    """Return the kind of evidence of a ledger row. Raises ValueError if the row names none of the four."""
    kind = row.get("evidence")
    if kind not in EVIDENCE:
        raise ValueError(
            f"The statement {row['id']} in book/claims.yml has evidence {kind!r}: "
            f"give its row the line `evidence:` with one of {', '.join(EVIDENCE)}."
        )
    return kind


def badge(kind):
    """Return the HTML of the badge for a kind of evidence; readable without the book's style sheet, light or dark."""
    return (
        f'<span class="evidence evidence-{kind.replace(" ", "-")}" style="border: 1px solid; border-radius: 1em; '
        f'padding: 0 .6em; white-space: nowrap"><span aria-hidden="true">{EVIDENCE[kind]}</span> {kind}</span>'
    )


class Shown:
    """A statement that held: `id`, the kind of `evidence`, and what this run `said`."""

    def __init__(self, id, evidence, said):
        self.id, self.evidence, self.said = id, evidence, said

    def __repr__(self):
        return f"✓ {self.id} ({self.evidence}): {self.said}"

    def _repr_html_(self):
        """Return one line with the anchor that the ledger page links to; its colours are the surrounding ones."""
        return (
            f'<div class="claim" id="claim-{self.id}" '
            'style="border-left: .25em solid var(--claim-edge, currentColor); padding: .1em .8em">'
            f'<span aria-hidden="true">✓</span> <span class="claim-said">{html.escape(self.said)}</span> '
            f'{badge(self.evidence)} <code class="claim-id">{self.id}</code></div>'
        )


def claim(id, holds, said):
    """Assert the statement `id` of the ledger and display `said`, a sentence with what this run measured.

    `holds` is a bool (numpy's too). Raises ClaimError if it is false, TypeError if it is no bool or `said` no text,
    LookupError if the ledger has no such statement, ValueError if its row names no evidence.
    """
    row = statement(id)
    kind = evidence(row)
    if not _is_bool(holds):
        raise TypeError(f"claim({id!r}): holds is {type(holds).__name__}, expected True or False, such as `lost == 0`.")
    if not isinstance(said, str) or not said.strip():
        raise TypeError(f"claim({id!r}): said is {said!r}, expected a sentence with what this run measured.")
    if not holds:
        raise ClaimError(f"{id} does not hold in this run. The statement: {row['now']} This run: {said}")
    display(Shown(id, kind, said))


def _is_bool(value):
    """Tell whether `value` is one bool: Python's or numpy's, but no array, which is neither true nor false."""
    dtype = getattr(value, "dtype", None)
    return isinstance(value, bool) or (getattr(dtype, "kind", "") == "b" and getattr(value, "ndim", None) == 0)
