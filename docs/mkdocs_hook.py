"""A hook of MkDocs: the site has the layout of the repository, so that links work on both.

MkDocs knows the files of one folder only. This gives it those of the repository that documents link
to, under their paths from its root: docs/sql.md, README.md, examples/sync.sh.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("*.md", "docs/*.md", "docs/*.css", "docs/images/*", "bench/*.md", "examples/**/*.md")
LINK = re.compile(r"\]\(([^)#:]+)[^)]*\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return the documents, the files that they link to, and those of the theme."""
    paths = {path for pattern in DOCUMENTS for path in ROOT.glob(pattern)}
    for document in [path for path in paths if path.suffix == ".md"]:
        for target in LINK.findall(document.read_text("utf-8")):
            path = (document.parent / target).resolve()
            if path.is_file():
                paths.add(path)
    made = [
        File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path))
        for path in sorted(paths)
    ]
    of_the_theme = [file for file in files if file.src_dir != config.docs_dir]
    return Files([*of_the_theme, *made])
