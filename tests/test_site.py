"""The built site, in Chromium: it asks no other host, it is accessible, it is light, and its links lead somewhere.

`make book` builds it. A page is looked at on a phone and on a desktop, in light and in dark.
"""

import functools
import gzip
import shutil
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"
sys.path.insert(0, str(ROOT / "book" / "_ext"))
from repository import public_url

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
HEAVIEST = 350_000  # bytes of one page and all that it loads, compressed as a web server does, without its figures
AXE = {"resultTypes": ["violations"], "preload": False}  # its preloading asks for style sheets where there are none
FLAGS = [  # no sandbox, as the tests may run as root; nothing that talks to a network by itself
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def pages():
    """Return the paths of the site's pages, relative to it; index.html only leads to the first of them."""
    if not (HTML / "index.html").exists():
        pytest.fail("There is no site in _build/html to look at: run `make book` first.", pytrace=False)
    return [path.relative_to(HTML).as_posix() for path in sorted(HTML.rglob("*.html")) if _is_page(path)]


def _is_page(path):
    """Tell a page from the templates that the theme leaves in `_static`, and from the redirect."""
    return "_static" not in path.parts and path != HTML / "index.html"


@pytest.fixture(scope="module")
def served(pages):
    """Serve the site on loopback and return its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            """Say nothing: a test's output is its failures."""

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=HTML)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser():
    """Start the system's Chromium without a window."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.fail("No Chromium was found on the PATH: install the package `chromium`.", pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Visitor:
    """A browser window on the site that notes, for each page it opens, what should not have happened."""

    def __init__(self, browser, site, viewport, scheme):
        self.site, self.notes = site, []
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: message.type == "error" and self.note(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.note(f"script: {error}"))
        self.page.on("request", lambda request: self.judge(request.url))
        self.page.on("requestfailed", self.judge_failure)
        self.page.on("response", lambda answer: answer.status >= 400 and self.note(f"{answer.status}: {answer.url}"))

    def note(self, what):
        """Keep a finding with the page it was made on."""
        self.notes.append(f"{self.path}: {what}")

    def judge(self, url):
        """Note a request that leaves the site; `data:` and `blob:` addresses never do."""
        if not url.startswith((self.site, "data:", "blob:")):
            self.note(f"asks {url}")

    def judge_failure(self, request):
        """Note a request that got no answer; one that was cut off by leaving the page is none."""
        if request.failure != "net::ERR_ABORTED":
            self.note(f"not loaded: {request.url}")

    def open(self, path):
        """Open a page of the site and wait until its scripts have run."""
        self.path = path
        self.page.goto(self.site + path, wait_until="load")
        self.page.wait_for_function("document.documentElement.dataset.theme !== 'auto'")


@pytest.fixture
def visit(browser):
    """Return a function that opens a Visitor; its windows close with the test."""
    visitors = []

    def visit(site, viewport=DESKTOP, scheme="light"):
        visitors.append(Visitor(browser, site, viewport, scheme))
        return visitors[-1]

    yield visit
    for visitor in visitors:
        visitor.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_pages_are_self_contained_accessible_and_fit(pages, served, visit, viewport, scheme):
    """No page asks another host, logs an error, has an axe violation or is wider than the screen."""
    visitor = visit(served, viewport, scheme)
    for path in pages:
        visitor.open(path)
        if visitor.page.evaluate("document.documentElement.dataset.theme") != scheme:
            visitor.note(f"is not {scheme}")
        wide = visitor.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            visitor.note(f"is {wide} px wider than the screen")
        # Contrast takes most of axe's time and is the same on a phone, which shows less of the page at once.
        options = AXE if viewport is DESKTOP else AXE | {"rules": {"color-contrast": {"enabled": False}}}
        for violation in Axe().run(visitor.page, options=options).response["violations"]:
            visitor.note(f"axe {violation['id']}: {[node['html'][:120] for node in violation['nodes'][:3]]}")
    assert not visitor.notes, "\n".join(visitor.notes)


def test_pages_work_from_the_disk(pages, visit):
    """A copy of the site opened without a server or a network shows every page without an error."""
    visitor = visit(HTML.as_uri() + "/")
    for path in pages:
        visitor.open(path)
    assert not visitor.notes, "\n".join(visitor.notes)


def test_pages_are_light(pages, served, visit):
    """A page with all that it loads weighs less than 350 kB, compressed, without its figures."""
    heavy = []
    for path in pages:
        visitor = visit(served)  # a new window for each page, as fonts in memory are not loaded again
        visitor.open(path)
        visitor.page.evaluate("document.fonts.ready")
        loaded = visitor.page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
        files = {unquote(urlsplit(url).path).lstrip("/") for url in loaded if url.startswith(served)} | {path}
        weight = sum(map(_compressed, files))
        if weight > HEAVIEST:
            heavy.append(f"{path} weighs {weight:,} bytes")
    assert heavy == []


@functools.cache
def _compressed(name):
    """Return the bytes of a file as a server sends it: a font is compressed already, a figure is not counted."""
    content = (HTML / name).read_bytes()
    if name.startswith("_images/"):
        return 0
    return len(content if name.endswith(".woff2") else gzip.compress(content))


@pytest.mark.parametrize("place", ["served", "disk"])
def test_search_finds_multi_az(served, visit, place):
    """The search page finds the words of the course, served and from the disk."""
    visitor = visit(served if place == "served" else HTML.as_uri() + "/")
    visitor.open("search.html?q=Multi-AZ")
    found = visitor.page.locator("#search-results li a")
    found.first.wait_for()
    assert any("ledger.html" in link.get_attribute("href") for link in found.all())
    assert not visitor.notes, "\n".join(visitor.notes)


def test_the_front_page_leads_into_the_book(served, visit):
    """The site's root opens the introduction."""
    visitor = visit(served)
    visitor.open("")
    visitor.page.wait_for_url(f"{served}book/intro.html")
    assert not visitor.notes, "\n".join(visitor.notes)


@pytest.fixture(scope="module")
def soups(pages):
    """Return the parsed pages by path, the redirect among them."""
    return {path: BeautifulSoup((HTML / path).read_bytes(), "html.parser") for path in ["index.html", *pages]}


def test_internal_links_lead_to_a_page_and_a_place_on_it(soups):
    """Every link within the site has its page, and every link to a place has one element with that id."""
    dead = []
    for path, soup in soups.items():
        for href in {link["href"] for link in soup.select("a[href]")}:
            target = urlsplit(urljoin(path, href))
            if target.scheme or target.path.startswith("_sources/"):
                continue
            page = soups.get(target.path) if target.path else soup
            if page is None or (target.fragment and len(page.find_all(id=unquote(target.fragment))) != 1):
                dead.append(f"{path} -> {href}")
    assert dead == []


def test_the_map_of_the_rds_chapter_is_its_contents(soups):
    """The table in the chapter's first notebook leads to all the others, in the order of _toc.yml."""
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    files = [page["file"] for part in parts for page in part["chapters"]]
    chapter = [f"{Path(file).name}.html" for file in files if file.startswith("notebooks/rds-")]
    assert [link["href"] for link in soups["notebooks/rds.html"].find("table").select("a")] == chapter


def test_source_downloads_are_there(soups):
    """The download button of a page leads to a file of the site."""
    buttons = [(path, link) for path, soup in soups.items() for link in soup.select('a[href*="_sources/"]')]
    links = {urljoin(path, link["href"]) for path, link in buttons}
    assert links and [link for link in links if not (HTML / link).exists()] == []


def test_every_page_introduces_itself(soups):
    """Each page has a title, one viewport, and a description of its own for search engines."""
    descriptions = {}
    for path, soup in soups.items():
        assert soup.title and soup.title.text.strip(), path
        assert len(soup.select('meta[name="viewport"]')) == 1, path
        (description,) = [tag["content"].strip() for tag in soup.select('meta[name="description"]')] or [""]
        descriptions.setdefault(description, []).append(path)
    assert [paths for text, paths in descriptions.items() if not text or len(paths) > 1] == []


def test_every_figure_has_words_for_those_who_do_not_see_it(soups):
    """An image in a text has an alt text, and that is not the file's name, which MyST-NB gives where there is none."""
    images = [(path, image) for path, soup in soups.items() for image in soup.select("article img")]
    nameless = [(path, str(image)) for path, image in images if not _describes(image.get("alt", ""))]
    assert nameless == []


def _describes(alt):
    """Tell whether an alt text is one: some words, and no file's name."""
    return len(alt.split()) > 1 and not alt.endswith((".png", ".svg", ".jpg"))


def test_the_ledger_page_shows_every_statement(soups):
    """Each of the 163 statements has an entry with its verdict, and each place that claims one is linked from it."""
    page = soups["book/ledger.html"]
    entries = page.select("ul.ledger > li")
    assert len(entries) == 163 and all(entry.select_one(".verdict") and entry["id"] for entry in entries)
    linked = {urljoin("book/ledger.html", link["href"]) for link in page.select('ul.ledger a[href*="#claim-"]')}
    claims = {f"{path}#{place['id']}" for path, soup in soups.items() for place in soup.select('[id^="claim-"]')}
    assert linked == claims


@pytest.mark.parametrize(
    ("remote", "url"),
    [
        ("git@github.com:reader/book.git", "https://github.com/reader/book"),
        ("https://reader:token@gitlab.com/school/class/book", "https://gitlab.com/school/class/book"),
        ("ssh://git@github.com/reader/book.git/", "https://github.com/reader/book"),
        ("/srv/git/book.git", None),
        ("https://example.org/github.com/book.git", None),
        ("", None),
    ],
)
def test_buttons_need_a_public_remote(remote, url):
    """The repository's address comes from git's remote, without its user or token; elsewhere there is none."""
    assert public_url(remote) == url
