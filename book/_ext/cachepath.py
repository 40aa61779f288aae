"""The execution cache, one folder for each state of what the notebooks' outputs depend on.

Jupyter Book's cache looks at a notebook's code only: without this it would publish outputs of an older minicloud.
"""

import sys
from pathlib import Path


def key_cache(app, config):
    """Point the cache at `.jupyter_cache/<fingerprint>` beside the built pages."""
    root = Path(app.srcdir)
    sys.path.insert(0, str(root))
    from tools.fingerprint import fingerprint

    config.nb_execution_cache_path = str(Path(app.outdir).parent / ".jupyter_cache" / fingerprint(root))


def setup(app):
    """Register the cache's path before MyST-NB reads it."""
    app.connect("config-inited", key_cache)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
