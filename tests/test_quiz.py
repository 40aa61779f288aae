"""The knowledge checks: every answer has its reason, and they work with a keyboard, without scripts, and on paper.

`make book` builds the pages. tests/test_site.py looks at them too, as at every page; here is what only they promise.
"""

import sys
from urllib.parse import urljoin, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.core import publish_doctree
from myst_parser.docutils_ import Parser
from playwright.sync_api import expect
from test_site import AXE, DESKTOP, HTML, PHONE, ROOT

from minicloud import claims

sys.path.insert(0, str(ROOT / "book" / "_ext"))
import quiz
import test_site

browser, visit = test_site.browser, test_site.visit  # pytest finds a fixture by its name in the module
SITE = f"{HTML.as_uri()}/"
SOURCES = sorted(ROOT.glob(f"{quiz.PAGES}*.md"))
FORMS, REASONS = "form.question", "form.question + details li"


def built(source):
    """Return the path of the page built from a source, relative to the site."""
    path = source.relative_to(ROOT).with_suffix(".html")
    if not (HTML / path).exists():
        pytest.fail(f"There is no {path} in _build/html to look at: run `make book` first.", pytrace=False)
    return path.as_posix()


@pytest.fixture(params=SOURCES, ids=lambda source: source.stem)
def path(request):
    """One page of questions after the other: its path relative to the site."""
    return built(request.param)


def soup(path):
    """Return the parsed page at a path of the site."""
    return BeautifulSoup((HTML / path).read_bytes(), "html.parser")


def test_every_option_has_a_reason_and_one_is_right(path):
    """A chapter has six questions or more; each has one right option, and each option a reason that links to a place."""
    page = soup(path)
    forms = page.select(FORMS)
    assert len(forms) >= 6
    for form in forms:
        reasons = form.find_next_sibling("details").select("li")
        assert len(reasons) == len(form.select("input")) > 2, form.legend.text
        assert [reason["class"] for reason in reasons].count(["right"]) == 1, form.legend.text
        for reason in reasons:
            assert reason.text.startswith("Right. " if reason["class"] == ["right"] else ("No. ", "No, ")), reason.text
            assert len(reason.text.split()) > 5 and reason.select("a"), reason.text


def test_every_reason_leads_to_the_place_that_shows_it(path):
    """Each link of a reason has its page in the built site, and on that page one element with its id."""
    links = {link["href"] for link in soup(path).select(f"{REASONS} a")}
    pages = {}
    dead = []
    for link in links:
        target = urlsplit(urljoin(path, link))
        if target.path not in pages and (HTML / target.path).is_file():
            pages[target.path] = soup(target.path)
        if target.path not in pages or not target.fragment or len(pages[target.path].find_all(id=target.fragment)) != 1:
            dead.append(link)
    assert links and dead == []


def test_the_courses_questions_are_asked_word_for_word(path):
    """A page has a question of the course, marked as its statement: in its words, its answer shown by a claim() line."""
    marks = soup(path).select('[id^="claim-"]')
    assert marks
    for mark in marks:
        section = mark.find_parent("section")
        assert section.legend.text == claims.statement(mark["id"].removeprefix("claim-"))["course"]
        assert section.select('details li.right a[href*="#claim-"]'), mark["id"]


GOOD = """
## A question

Which?

1. This
2. That

<details>
<summary>Answers and reasons</summary>

1. No. [Look](https://example.org) here.
2. **Right.** [Look](https://example.org) there.

</details>
"""


@pytest.mark.parametrize(
    ("was", "now", "problem"),
    [
        ("**Right.**", "Right.", "has 0 right options"),
        ("1. No.", "1. **Right.**", "has 2 right options"),
        ("2. That\n", "2. That\n3. Neither\n", "has 3 options and 2 reasons"),
        ("[Look](https://example.org) here", "Look here", "links from reason 1 to nothing"),
        ("Which?\n", "", "is no question"),
        ("</details>", "", "is no question"),
        ("Which?", "Which one?", None),
    ],
)
def test_the_build_tells_what_is_wrong_with_a_question(was, now, problem):
    """A section that is no question of options and reasons is refused, with what is wrong; a good one is not."""
    document = publish_doctree(GOOD.replace(was, now), parser=Parser(), settings_overrides={"doctitle_xform": False})
    section = next(document.findall(nodes.section))
    if problem is None:
        assert quiz.question(section).asks.astext() == now
    else:
        with pytest.raises(ValueError, match=problem):
            quiz.question(section)


def test_the_mark_of_the_next_question_is_no_part_of_this_one():
    """The mark `(claim-…)=` before a heading, which docutils puts at the end of the section before, does no harm."""
    marked = f"# Check\n{GOOD}\n(claim-quiz-1)=\n{GOOD.replace('A question', 'Another')}"
    document = publish_doctree(marked, parser=Parser(), settings_overrides={"doctitle_xform": False})
    first, second = [node for node in document.findall(nodes.section) if isinstance(node.parent, nodes.section)]
    assert isinstance(first[-1], nodes.target)
    assert quiz.question(first).asks.astext() == quiz.question(second).asks.astext() == "Which?"


def press_until(page, key, selector):
    """Press a key until the element that has the focus matches a selector."""
    for _ in range(80):
        page.keyboard.press(key)
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"{selector} was not reached with {key}.")


def test_a_question_is_answered_with_the_keyboard_alone(path, visit):
    """Tab, arrows, Enter and Space choose and check an answer; a live region says its reason, whose link is next."""
    visitor = visit(SITE)
    visitor.open(path)
    page, keys = visitor.page, visitor.page.keyboard
    form, reasons = page.locator(FORMS).first, page.locator("form.question + details").first.locator("li")
    right = [reason.get_attribute("class") for reason in reasons.all()].index("right")
    wrong = 0 if right else 1
    said = form.get_by_role("status")
    expect(said).to_be_empty()

    press_until(page, "Tab", "form.question input")
    keys.press("Enter")
    expect(said).to_be_empty()  # nothing was chosen: the browser says so by itself
    keys.press("Space")
    for _ in range(wrong):
        keys.press("ArrowDown")
    keys.press("Enter")
    expect(said).to_have_text(reasons.nth(wrong).text_content())
    expect(form.locator("li.wrong, li.right")).to_have_count(1)
    expect(form.locator("li").nth(wrong)).to_have_class("wrong")

    for _ in range(abs(right - wrong)):
        keys.press("ArrowDown" if right > wrong else "ArrowUp")
    expect(said).to_be_empty()
    press_until(page, "Tab", "form.question button")
    keys.press("Space")
    expect(said).to_have_text(reasons.nth(right).text_content())
    expect(form.locator("li").nth(right)).to_have_class("right")

    keys.press("Tab")
    link = page.evaluate("document.activeElement.href")
    assert "#" in link and page.evaluate("document.activeElement.closest('[role=status]') !== null")
    keys.press("Enter")
    page.wait_for_url(link)
    assert not visitor.notes, "\n".join(visitor.notes)


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_no_answer_shows_before_it_is_asked_for(path, browser, scripts):
    """With scripts or without, no reason shows until a reader opens the answers, which Enter does without scripts."""
    context = browser.new_context(java_script_enabled=scripts)
    try:
        page = context.new_page()
        page.goto(SITE + path)
        assert page.locator("form.question input:visible").count() > 0
        assert page.locator("form.question button:visible").count() == scripts * page.locator(FORMS).count()
        told = page.locator(f"{REASONS}:visible, .answers-printed :visible, .reason :visible")
        assert told.all_text_contents() == []
        answers = page.locator("form.question + details").first
        answers.locator("summary").press("Enter")
        assert told.all_text_contents() == answers.locator("li").all_text_contents()
    finally:
        context.close()


def test_a_printed_page_has_the_answers_at_its_end(path, visit):
    """On paper all reasons stand after the last question and nowhere else, whatever was answered on the screen."""
    visitor = visit(SITE)
    visitor.open(path)
    page = visitor.page
    answer(page, 0)
    reasons = page.locator(REASONS).all_text_contents()
    page.emulate_media(media="print")
    assert page.locator(".answers-printed li:visible").all_text_contents() == reasons
    assert page.locator(f"{REASONS}:visible, .reason:visible, form.question button:visible").count() == 0
    question = page.locator(FORMS).last.bounding_box()
    assert page.locator(".answers-printed").bounding_box()["y"] >= question["y"] + question["height"]


def answer(page, first):
    """Answer every question of a page, the options taken in turn from the number `first`, and check the answers."""
    for number, form in enumerate(page.locator(FORMS).all(), start=first):
        options = form.locator("input").all()
        options[number % len(options)].check()
        form.locator("button").click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_an_answered_page_is_accessible_and_fits(path, visit, viewport, scheme):
    """With questions answered, right and wrong, and the answers open, axe finds nothing and nothing is too wide."""
    visitor = visit(SITE, viewport, scheme)
    visitor.open(path)
    page = visitor.page
    answer(page, 0)
    assert page.locator(".reason.right").count() and page.locator(".reason.wrong").count()
    for summary in page.locator("form.question + details summary").all():
        summary.click()
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0
    for violation in Axe().run(page, options=AXE).response["violations"]:
        visitor.note(f"axe {violation['id']}: {[node['html'][:120] for node in violation['nodes'][:3]]}")
    assert not visitor.notes, "\n".join(visitor.notes)
