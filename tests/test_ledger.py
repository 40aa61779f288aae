"""The ledger: its rows, the cells that claim them, and what claim() does."""

import datetime
import sys
from collections import Counter
from pathlib import Path

import nbformat
import numpy
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook

from minicloud import claims

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))
import ledger

PAGES = sorted((ROOT / "book").glob("check-*.md"))
FIELDS = ("id", "service", "section", "course", "verdict", "now", "source", "demo", "live_api")


def notebooks(folder):
    """Return the notebooks under `folder` as (metadata, claim cells), without JupyterLab's checkpoints."""
    paths = [path for path in sorted(folder.rglob("*.ipynb")) if ".ipynb_checkpoints" not in path.parts]
    return [(nbformat.read(path, as_version=4).metadata, ledger.cells(path, path.stem)) for path in paths]


def left_out(folder, pages=()):
    """Return the ids of the statements of the finished chapters under `folder` that no cell claims and no page asks."""
    books = [(metadata.get("book", {}), cells) for metadata, cells in notebooks(folder)]
    finished = {service for book, _ in books if book.get("finished") for service in book.get("services", [])}
    claimed = {cell.id for _, cells in books for cell in cells}
    claimed.update(question.id for page in pages for question in ledger.questions(page, page.stem))
    return [id for id, row in claims.statements().items() if row["service"] in finished and id not in claimed]


@pytest.fixture
def chapter(tmp_path):
    """Return a function that writes a notebook of the given cells into a folder of its own and returns the folder."""

    def write(*cells, **book):
        notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells], metadata={"book": book})
        nbformat.write(notebook, tmp_path / "chapter.ipynb")
        return tmp_path

    return write


@pytest.fixture
def rows(monkeypatch):
    """Stand in a ledger of two statements: `shown`, a model, and `bare`, which names no evidence."""
    rows = {"shown": {"id": "shown", "now": "It is so.", "evidence": "model"}, "bare": {"id": "bare", "now": "Bare."}}
    monkeypatch.setattr(claims, "statements", lambda: rows)


def test_every_row_is_whole():
    """A row has all its texts, and its verdict, service, evidence and date are of those that there are."""
    for row in claims.statements().values():
        texts = [row.get(field) for field in FIELDS]
        assert all(isinstance(text, str) and text.strip() for text in texts), row["id"]
        assert row["verdict"] in ledger.VERDICTS and row["service"] in ledger.SERVICES, row["id"]
        assert row.get("evidence", "model") in claims.EVIDENCE, row["id"]
        datetime.date.fromisoformat(str(row.get("checked", ledger.CHECKED)))


def test_the_ledger_holds_the_whole_course_once():
    """The course makes 163 statements and each has one row."""
    ids = Counter(row["id"] for row in yaml.safe_load(claims.LEDGER.read_text(encoding="utf-8")))
    assert len(ids) == 163
    assert [id for id, times in ids.items() if times > 1] == []


def test_a_finished_chapter_shows_every_statement_of_its_services(chapter):
    """No statement of a chapter that calls itself finished is without a cell; one that does not may leave any out."""
    assert left_out(ROOT / "notebooks", PAGES) == []
    of_rds = [id for id, row in claims.statements().items() if row["service"] == "rds"]
    assert left_out(chapter(f"claim({of_rds[0]!r}, True, 'so')", services=["rds"], finished=True)) == of_rds[1:]
    assert left_out(chapter("pass", services=["rds"], finished=False)) == []


def test_every_claim_of_a_notebook_has_its_place_in_the_ledger():
    """No notebook claims an unknown statement, one without evidence, one twice, or one that the ledger cannot see."""
    found = [problem for _, cells in notebooks(ROOT / "notebooks") for problem in ledger.problems(cells)]
    found += [problem for page in PAGES for problem in ledger.problems(ledger.questions(page, f"book/{page.stem}"))]
    assert found == []


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ("claim('shwon', True, 'so')", "no statement of book/claims.yml"),
        ("claim('bare', True, 'so')", "has no `evidence:`"),
        ("claim(name, True, 'so')", "computed id"),
        ("claim('shown', True, 'so')\nclaim('shown', True, 'so')", "claimed twice"),
        ("claim('shown', True, 'so')", None),
        ("!aws rds help\n%time minicloud.claim(id='shown', holds=True, said='so')", None),
    ],
)
def test_the_build_tells_which_cell_claims_wrongly(rows, chapter, cell, problem):
    """A cell that the ledger cannot link to is told, by its index and with what is wrong; a good one is not."""
    cells = [cell for _, cells in notebooks(chapter("pass", cell)) for cell in cells]
    found = list(ledger.problems(cells))
    assert len(found) == (problem is not None), found
    assert problem is None or (problem in found[0])


def test_a_question_of_the_course_is_claimed_by_its_mark(rows, tmp_path):
    """A mark before a question is found, with its line; one whose statement is unknown or has no evidence is told."""
    page = tmp_path / "check-chapter.md"
    page.write_text("# Check\n\n(claim-shown)=\n## One\n\n(claim-bare)=\n## Two\n\n(claim-shwon)=\n## Three\n")
    found = ledger.questions(page, "book/check-chapter")
    assert [(question.id, question.index) for question in found] == [("shown", 3), ("bare", 6), ("shwon", 9)]
    bare, unknown = ledger.problems(found)
    assert bare.startswith("line 6 claims 'bare'") and "has no `evidence:`" in bare
    assert unknown.startswith("line 9 claims 'shwon'") and "no statement of book/claims.yml" in unknown


@pytest.mark.parametrize("holds", [True, numpy.int64(0) == 0])
def test_a_true_claim_is_displayed_once_with_its_anchor(rows, monkeypatch, holds):
    """What held is shown as text and as HTML: the anchor of the ledger's link, the badge, the id and the sentence."""
    displayed = []
    monkeypatch.setattr(claims, "display", displayed.append)
    assert claims.claim("shown", holds, "1 < 2 rows") is None
    (line,) = displayed
    assert repr(line) == "✓ shown (model): 1 < 2 rows"
    for part in ('id="claim-shown"', "◐", "model", "1 &lt; 2 rows"):
        assert part in line._repr_html_()


def test_a_false_claim_stops_the_cell(rows):
    """A false claim raises an AssertionError with the statement and what the run measured, and shows only that."""
    with pytest.raises(AssertionError, match="shown does not hold.*It is so.*3 rows lost") as failure:
        claims.claim("shown", False, "3 rows lost")
    assert failure.value._render_traceback_() == [f"ClaimError: {failure.value}"]


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (("shwon", True, "so"), LookupError, "no statement 'shwon': did you mean shown?"),
        (("bare", True, "so"), ValueError, "bare.*`evidence:`.*real engine, model, control plane, live only"),
        (("shown", [0], "so"), TypeError, "holds is list, expected True or False"),
        (("shown", numpy.array([True]), "so"), TypeError, "holds is ndarray"),
        (("shown", "so", True), TypeError, "holds is str"),
        (("shown", True, " "), TypeError, "expected a sentence"),
    ],
)
def test_a_wrong_call_says_what_was_expected(rows, arguments, error, sentence):
    """A claim of nothing known, of something that is no truth value, or without a sentence is no claim."""
    with pytest.raises(error, match=sentence):
        claims.claim(*arguments)
