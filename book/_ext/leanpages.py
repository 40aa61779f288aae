"""What keeps a page light and accessible, where the theme and its parts do not.

Each patch is held by tests/test_site.py (axe, console errors, weight), which tells when an update undoes it.
"""

from sphinx.builders.html._assets import _JavaScript


def defer_scripts(app, pagename, templatename, context, doctree):
    """Let every script file load after the page is drawn, in its order."""
    for script in context.get("script_files", []):
        if isinstance(script, _JavaScript) and script.filename and "async" not in script.attributes:
            script.attributes["defer"] = "defer"


def mend_tables(app, pagename, templatename, context, doctree):
    """Make the corner of a pandas table a plain cell: an empty header is announced as a header of nothing."""
    context["body"] = context.get("body", "").replace("<th></th>", "<td></td>")


def front_page(app):
    """Yield index.html, which leads to the book's first page; the one made by default has no title and no language."""
    if app.config.master_doc != "index":
        yield "index", {"first": f"{app.config.master_doc}.html"}, "redirect.html"


def setup(app):
    """Register the patches."""
    app.connect("html-page-context", defer_scripts)
    app.connect("html-page-context", mend_tables)
    app.connect("html-collect-pages", front_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
