"""Writes pages from the templates: every text escaped, every file whole or not at all."""

from pathlib import Path
from typing import Any

import jinja2

from tl.errors import UserError
from tl.files import replacing
from tl.results import formats

PAGE = "report.html"
INDEX = "index.html"

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["date"] = formats.date


def write(path: Path, template: str, **values: Any) -> Path:
    """Writes a page atomically and returns its path.

    Args:
      path: of the file.
      template: its name in templates/.
      **values: what the template shows.

    Raises:
      UserError: the file cannot be written.
    """
    text = _TEMPLATES.get_template(template).render(**values)
    try:
        with replacing(path) as partial:
            # Names of files may hold bytes that are no text.
            partial.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    return path
