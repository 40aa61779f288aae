"""What makes a page light and accessible where the theme and its parts do not; the rest is in book/_templates.

tests/test_site.py holds each patch: it tells when an update of the theme undoes one.
"""

import re
from pathlib import Path


def keep_one_viewport(app, pagename, templatename, context, doctree):
    """Drop docutils' viewport tag: the layout has one already."""
    context["metatags"] = re.sub(r'<meta name="viewport"[^>]*>', "", context.get("metatags", ""))


def mend_tables(app, pagename, templatename, context, doctree):
    """Make the corner of a pandas table a plain cell: an empty header is announced as a header of nothing."""
    context["body"] = context.get("body", "").replace("<th></th>", "<td></td>")


def front_page(app):
    """Yield index.html, which leads to the book's first page; the one made by default has no title and no language."""
    icon = f"_static/{Path(app.config.html_favicon).name}"
    yield "index", {"first": f"{app.config.master_doc}.html", "icon": icon}, "redirect.html"


def setup(app):
    """Register the patches."""
    app.connect("html-page-context", keep_one_viewport)
    app.connect("html-page-context", mend_tables)
    app.connect("html-collect-pages", front_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
