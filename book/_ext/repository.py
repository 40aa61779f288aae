"""The book's public address, from git's remote: repository link, and Binder buttons on the notebooks.

Without a remote on GitHub or GitLab there are no buttons; nothing is invented.
"""

import re
import subprocess
from urllib.parse import quote

REMOTE = re.compile(
    r"(?:https?://|ssh://|git@)(?:[^@/\s]+@)?(github\.com|gitlab\.com)[:/](?P<path>[\w./-]+?)(?:\.git)?/?"
)


def public_url(remote):
    """Return the https address of a git remote on GitHub or GitLab, without any user or token in it, or None."""
    match = REMOTE.fullmatch(remote.strip())
    return f"https://{match[1]}/{match['path']}" if match else None


def git(root, *arguments):
    """Return what git answers in `root`; empty if it has no answer, or where the book was copied without git."""
    try:
        command = ["git", "-C", root, *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=10).stdout.strip()
    except OSError:
        return ""


def add_buttons(app, config):
    """Give the theme the repository's address and Binder's, if there is one."""
    url = public_url(git(app.srcdir, "remote", "get-url", "origin"))
    if not url:
        return
    branch = git(app.srcdir, "rev-parse", "--abbrev-ref", "HEAD")
    config.html_theme_options |= {
        "repository_url": url,
        "repository_branch": quote(branch if branch not in ("", "HEAD") else "main", safe=""),
        "use_repository_button": True,
        "launch_buttons": {"binderhub_url": "https://mybinder.org", "notebook_interface": "jupyterlab"},
    }


def setup(app):
    """Register the buttons."""
    app.connect("config-inited", add_buttons)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
