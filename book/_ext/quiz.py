"""Knowledge checks: turns a page of questions, written in plain Markdown, into questions that can be answered.

Every section of a page `book/check-….md` is a question: a paragraph that asks, a numbered list of options, and in a
`<details>` block the numbered list of their reasons. The reason of the right option begins with `**Right.**`, and every
reason has a link. So the source can be read in JupyterLab as it is. In the book the options become radio buttons, which
book/_assets/quiz.js answers; without scripts the reader opens the reasons. A printed page has them at its end.
"""

from typing import NamedTuple

from docutils import nodes
from sphinx import addnodes
from sphinx.util import logging

LOG = logging.getLogger(__name__)
PAGES = "book/check-"
RIGHT = "Right."


class Tag(nodes.General, nodes.Element):
    """An HTML element that docutils has no node for, with its `name` and, in `html`, its attributes."""


def tag(name, /, *children, **html):
    """Return an HTML element; `class_` stands for the attribute whose name is a word of Python."""
    return Tag("", *children, name=name, html={key.rstrip("_"): value for key, value in html.items()})


def visit_tag(writer, node):
    """Write the start tag; an attribute that is True has no value."""
    pairs = node["html"].items()
    attributes = "".join(f" {k}" if v is True else f' {k}="{writer.attval(str(v))}"' for k, v in pairs)
    writer.body.append(f"<{node['name']}{attributes}>")


def depart_tag(writer, node):
    """Write the end tag, which an `input` has not."""
    writer.body.append("" if node["name"] == "input" else f"</{node['name']}>\n")


class Question(NamedTuple):
    """What a section holds: the paragraph that asks, the list of options, and the list of their reasons."""

    asks: nodes.paragraph
    options: nodes.enumerated_list
    reasons: nodes.enumerated_list


def question(section):
    """Return the section's question. Raises ValueError, with what is wrong and what was expected, if it has none."""
    kinds = [nodes.title, nodes.paragraph, nodes.enumerated_list, nodes.raw, nodes.enumerated_list, nodes.raw]
    parts = [child for child in section if not isinstance(child, nodes.target)]  # the mark of the question that follows
    if [type(part) for part in parts] != kinds:
        raise ValueError(
            "is no question: expected a paragraph, a numbered list of options, and in <details> one of reasons."
        )
    _, asks, options, _, reasons, _ = parts
    if len(options) != len(reasons):
        raise ValueError(f"has {len(options)} options and {len(reasons)} reasons: expected one for each.")
    right = sum(map(is_right, reasons))
    if right != 1:
        raise ValueError(f"has {right} right options: expected one, its reason beginning with **{RIGHT}**")
    for number, reason in enumerate(reasons, start=1):
        if not any(reason.findall(lambda node: isinstance(node, nodes.reference | addnodes.pending_xref))):
            raise ValueError(f"links from reason {number} to nothing: expected a link to where it can be seen.")
    return Question(asks, options, reasons)


def is_right(reason):
    """Tell whether a reason is that of the right option."""
    first = next(iter(reason.findall(nodes.strong)), None)
    return first is not None and first.astext() == RIGHT and reason.astext().startswith(RIGHT)


def make_questions(app, doctree):
    """Turn each section of a page of questions into a form, and repeat the answers at the end for a printed page."""
    if not app.env.docname.startswith(PAGES):
        return
    answers = tag("div", tag("h2", nodes.Text("Answers")), class_="answers-printed")
    for section in [node for node in doctree.findall(nodes.section) if isinstance(node.parent, nodes.section)]:
        title = section[0].astext()
        try:
            found = question(section)
        except ValueError as error:
            LOG.warning("The section %r %s", title, error, location=section, type="quiz")
            continue
        for reason in found.reasons:
            reason["classes"].append("right" if is_right(reason) else "wrong")
        answers += [tag("h3", nodes.Text(title)), found.reasons.deepcopy()]
        section[1:3] = [form(section["ids"][0], found)]
    doctree += answers


def form(name, question):
    """Return the form of a question. Its button works with the script only, so until then it is hidden."""
    options = tag("ol", *(option(name, number, item) for number, item in enumerate(question.options, start=1)))
    button = tag("button", nodes.Text("Check"), type="submit", disabled=True, hidden=True)
    group = tag("fieldset", tag("legend", *question.asks.children), options, button)
    return tag("form", group, tag("div", class_="reason", role="status"), class_="question")


def option(name, number, item):
    """Return one option: a radio button with its label."""
    radio = tag("input", type="radio", name=name, value=number, required=True)
    text = [inline for paragraph in item for inline in paragraph.children]
    return tag("li", tag("label", radio, tag("span", *text)))


def add_files(app, pagename, templatename, context, doctree):
    """Load the script and the style sheet, on pages of questions only."""
    if pagename.startswith(PAGES):
        app.add_js_file("quiz.js")
        app.add_css_file("quiz.css")


def setup(app):
    """Register the element and the steps."""
    app.add_node(Tag, html=(visit_tag, depart_tag))
    app.connect("doctree-read", make_questions)
    app.connect("html-page-context", add_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
