"""The ledger page: each statement of the course, its verdict today, and the cell or the question that shows it.

Adds the directive `{ledger}` (the whole list) and the role `{evidence}` (one badge in a sentence). The cells are found
by reading the notebooks' code, not by running it, so the page is right even when the outputs come from the cache.
The course's own questions are statements too. What shows one is the question that asks it on a page of questions, with
the mark `(claim-quiz-1)=` before its heading: each of its answers links to a cell.
"""

import ast
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import nbformat
from docutils import nodes
from IPython.core.inputtransformer2 import TransformerManager
from sphinx import addnodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from minicloud import claims

LOG = logging.getLogger(__name__)
CHECKED = "2026-11-23"  # when the ledger was checked as a whole; a row checked again says so in its field `checked`
SERVICES = {
    "rds": "Amazon RDS",
    "aurora": "Amazon Aurora",
    "dynamodb": "Amazon DynamoDB",
    "elasticache": "Amazon ElastiCache",
    "redshift": "Amazon Redshift",
    "course": "The course itself",
}
QUESTIONS = "book/check-"  # how the names of the pages of questions begin
MARK = re.compile(r"\(claim-([\w-]+)\)=")
VERDICTS = {  # sign and meaning; the sign tells one from another without colour
    "right": ("✓", "The course's words hold today."),
    "imprecise": ("≈", "They hold within a limit that the course leaves out."),
    "stale": ("↻", "They were true once. AWS has changed since."),
    "wrong": ("✗", "They are not so."),
    "not verified": ("?", "No AWS page that says so was found."),
}


class Cell(NamedTuple):
    """A `claim()` call in a notebook: the notebook's name in the book, the claim's id, and the cell's index.

    Or a marked question: the page's name, the id, and the number of the mark's line.
    """

    docname: str
    id: str | None  # None where the call's first argument is not a literal
    index: int

    @property
    def kind(self):
        """What the place is: a cell or a question."""
        return "question" if self.docname.startswith(QUESTIONS) else "cell"

    def __str__(self):
        return f"line {self.index} claims" if self.kind == "question" else f"cell {self.index} claims"


def claim_calls(code):
    """Return the ids of the `claim()` calls in one cell's code, IPython's magics allowed; None for a computed id."""
    try:
        tree = ast.parse(TransformerManager().transform_cell(code))
    except SyntaxError:
        return []  # the cell claims nothing: running it fails the build
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _name(node.func) == "claim"]
    arguments = [[*call.args, *(k.value for k in call.keywords if k.arg == "id"), None][0] for call in calls]
    return [argument.value if isinstance(argument, ast.Constant) else None for argument in arguments]


def _name(function):
    """Return the name by which a call names its function: `claim` for `claim(…)` and for `minicloud.claim(…)`."""
    return getattr(function, "id", getattr(function, "attr", None))


def cells(path, docname):
    """Return the claim cells of the notebook at `path`, in reading order."""
    notebook = nbformat.read(path, as_version=4)
    code = [(i, cell.source) for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    return [Cell(docname, id, i) for i, source in code for id in claim_calls(source)]


def questions(path, docname):
    """Return the marked questions of the page at `path`, in reading order."""
    marks = map(MARK.fullmatch, Path(path).read_text(encoding="utf-8").splitlines())
    return [Cell(docname, mark[1], number) for number, mark in enumerate(marks, start=1) if mark]


def problems(found):
    """Return a sentence for each cell or question of `found` that the ledger cannot link to: unknown, computed or doubled."""
    twice = Counter((cell.docname, cell.id) for cell in found)
    for cell in found:
        if cell.id is None:
            yield f"cell {cell.index} calls claim() with a computed id: write the id as a string in the call."
        elif cell.id not in claims.statements():
            yield f"{cell} {cell.id!r}, which is no statement of book/claims.yml."
        elif claims.statements()[cell.id].get("evidence") not in claims.EVIDENCE:
            yield f"{cell} {cell.id!r}, whose row in book/claims.yml has no `evidence:`."
        elif twice.pop((cell.docname, cell.id), 1) > 1:
            yield f"{cell.id!r} is claimed twice: a notebook claims a statement once, so that its link is one place."


def book_cells(env):
    """Return the claim cells of all notebooks in the book and the marked questions of all its pages, by page."""
    paths = {name: env.doc2path(name) for name in sorted(env.found_docs)}
    notebooks = {name: cells(path, name) for name, path in paths.items() if Path(path).suffix == ".ipynb"}
    return notebooks | {name: questions(path, name) for name, path in paths.items() if name.startswith(QUESTIONS)}


def warn_of_problems(app, env):
    """Warn, and so fail a build with -W, of each cell whose claim the ledger cannot link to."""
    for docname, found in book_cells(env).items():
        for problem in problems(found):
            LOG.warning(problem, location=docname, type="ledger")


class Ledger(SphinxDirective):
    """`{ledger}`: the counts, then the statements by service and by section of the course, in its order."""

    def run(self):
        """Return the summary and one section for each service."""
        self.env.note_reread()  # the notebooks decide what this page says, and may change without it
        self.cells = {}
        for found in book_cells(self.env).values():
            for cell in found:
                self.cells.setdefault(cell.id, []).append(cell)
        rows = list(claims.statements().values())
        services = {name: [row for row in rows if row["service"] == name] for name in SERVICES}
        return [
            *self.summary(rows, services),
            *(self.service(name, mine) for name, mine in services.items()),
        ]

    def summary(self, rows, services):
        """Return the counts in a sentence, the verdicts with their meaning, and the table by service."""
        counts = Counter(row["verdict"] for row in rows)
        shown = self.shown(rows)
        sentence = f"The course makes {len(rows)} statements. {shown} of them are shown by a cell of this book so far."
        meanings = nodes.bullet_list(classes=["ledger-verdicts"])
        for verdict, (_, meaning) in VERDICTS.items():
            line = nodes.paragraph("", "", _verdict(verdict), nodes.Text(f" {counts[verdict]}. {meaning}"))
            meanings += nodes.list_item("", line)
        head = ["Service", "All", "Not right today", "Shown by a cell"]
        body = [
            [SERVICES[name], len(mine), sum(row["verdict"] != "right" for row in mine), self.shown(mine)]
            for name, mine in services.items()
        ]
        return [nodes.paragraph("", sentence), meanings, _table(head, body), nodes.raw("", FILTER, format="html")]

    def shown(self, rows):
        """Return how many of the rows a cell shows."""
        return sum(row["id"] in self.cells for row in rows)

    def service(self, name, rows):
        """Return the section of one service, with a list of statements under each heading of the course."""
        section = _section(f"ledger-{name}", SERVICES[name])
        groups = {}
        for row in rows:
            groups.setdefault(row["section"], []).append(row)
        for heading, group in groups.items():
            title = "Introduction" if heading == "intro" else heading
            part = _section(nodes.make_id(f"ledger-{name}-{heading}"), title)
            part += nodes.bullet_list("", *(self.entry(row) for row in group), classes=["ledger"])
            section += part
        return section

    def entry(self, row):
        """Return one statement: what the course says, what is so today, from where, and where it is shown."""
        words = nodes.inline("", f"“{row['course']}”", classes=["ledger-course"])
        course = nodes.paragraph("", "", _verdict(row["verdict"]), nodes.Text(" "), words)
        today = nodes.paragraph("", row["now"], classes=["ledger-now"])
        source = nodes.paragraph("", "Source: ", *_linked(row["source"]), classes=["ledger-source"])
        source += nodes.Text(f". Checked {row.get('checked', CHECKED)}.")
        where = nodes.paragraph("", "", nodes.literal("", row["id"]), nodes.Text(" "), *self.links(row))
        where["classes"].append("ledger-where")
        # `[…](#rds-multiaz-sync)` in any page links here.
        self.env.get_domain("std").note_hyperlink_target(row["id"], self.env.docname, row["id"], row["course"])
        kind = f"verdict-{row['verdict'].replace(' ', '-')}"
        found = "shown" if row["id"] in self.cells else "not-shown"
        return nodes.list_item("", course, today, source, where, ids=[row["id"]], classes=[kind, found])

    def links(self, row):
        """Return the badge of the row's evidence and a link to each cell that shows it, or that none does yet."""
        if row["id"] not in self.cells:
            return [nodes.Text("No cell shows it yet.")]
        links = [nodes.raw("", claims.badge(claims.evidence(row)), format="html")] if row.get("evidence") else []
        for cell in self.cells[row["id"]]:
            target = self.env.app.builder.get_relative_uri(self.env.docname, cell.docname)
            text = f"See the {cell.kind} in {Path(cell.docname).name}"
            links += [nodes.Text(" "), nodes.reference("", text, refuri=f"{target}#claim-{cell.id}", internal=True)]
        return links


class Evidence(SphinxRole):
    """`{evidence}`: the badge of one kind of evidence, as claim() shows it."""

    def run(self):
        """Return the badge; an error node for a kind that is none of the four."""
        if self.text in claims.EVIDENCE:
            return [nodes.raw("", claims.badge(self.text), format="html")], []
        message = f"{self.text!r} is no kind of evidence: expected one of {', '.join(claims.EVIDENCE)}."
        return [], [self.inliner.reporter.error(message, line=self.lineno)]


def link_to_cells(app, doctree):
    """Resolve the links to a place in another page here: MyST knows no claim() line and no heading there."""
    for link in list(doctree.findall(addnodes.pending_xref)):
        if link.get("reftargetid"):
            page = app.builder.get_relative_uri(app.env.docname, link["reftarget"])
            uri = f"{page}#{link['reftargetid']}"
            link.replace_self(nodes.reference("", "", *link.children, refuri=uri, internal=True))


def link_claims(app, pagename, templatename, context, doctree):
    """Turn the id in each claim() line of a page into a link to its entry in the ledger."""
    if 'class="claim-id"' not in context.get("body", ""):
        return
    ledger = context["pathto"]("book/ledger")
    link = rf'<a class="claim-id" href="{ledger}#\1"><code>\1</code></a>'
    context["body"] = re.sub(r'<code class="claim-id">([\w-]+)</code>', link, context["body"])


FILTER = """<fieldset class="ledger-filter"><legend>Show</legend>
<label><input type="radio" name="ledger" checked> all</label>
<label><input type="radio" name="ledger" id="ledger-changed"> not right today</label>
<label><input type="radio" name="ledger" id="ledger-shown"> shown by a cell</label>
</fieldset>"""


def _section(id, title):
    return nodes.section("", nodes.title("", title), ids=[id], names=[id])


def _verdict(verdict):
    """Return the badge of a verdict: its sign, hidden from screen readers, and its word."""
    kind = verdict.replace(" ", "-")
    sign = VERDICTS[verdict][0]
    badge = f'<span class="verdict verdict-{kind}"><span aria-hidden="true">{sign}</span> {verdict}</span>'
    return nodes.raw("", badge, format="html")


def _linked(text):
    """Return `text` as nodes, each web address in it a link."""
    parts = re.split(r"(https?://[^\s;,)]+)", text)
    return [nodes.reference("", part, refuri=part) if i % 2 else nodes.Text(part) for i, part in enumerate(parts)]


def _table(head, body):
    """Return a table; the first column is text, the others are numbers."""
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in head), cols=len(head))
    group += nodes.thead("", _row(head))
    group += nodes.tbody("", *(_row(cells) for cells in body))
    return nodes.table("", group, classes=["ledger-counts"])


def _row(cells):
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", str(cell))) for cell in cells))


def setup(app):
    """Register the directive, the role, the checks and the links."""
    app.add_directive("ledger", Ledger)
    app.add_role("evidence", Evidence())
    app.connect("env-check-consistency", warn_of_problems)
    app.connect("doctree-read", link_to_cells)
    app.connect("html-page-context", link_claims)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
