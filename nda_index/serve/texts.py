"""Texts of the page in another language: a translated copy of serve/static/texts.js, served in its place."""

from __future__ import annotations

import re
from pathlib import Path

from nda_index.errors import ConfigError

ENGLISH = Path(__file__).parent / "static" / "texts.js"


def read_texts(path: Path) -> str:
    """Read a translation of the page's texts.

    Raises:
        ConfigError: the file cannot be read, or has not all texts.

    Example:
        >>> read_texts(ENGLISH).startswith("/**")
        True
    """
    try:
        translated = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"the texts {path} cannot be read: {error}") from error
    missing = [name for name in text_names(ENGLISH.read_text("utf-8")) if name not in text_names(translated)]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ConfigError(
            f"the texts {path} have no {', '.join(missing[:5])}{more}; a translation needs every text: copy the lines "
            f"from {ENGLISH}"
        )
    return translated


def text_names(source: str) -> list[str]:
    """Return the names of the texts in a module: what it exports, and the members of that.

    Example:
        >>> text_names('export const page = {\\n  title: "Bilder",\\n};\\nexport const language = "de";')
        ['page', 'page.title', 'language']
    """
    names, group = list[str](), ""
    for exported, member in re.findall(r"^export const (\w+)|^(?:  |\t)(\w+):", source, re.MULTILINE):
        group = exported or group
        names.append(f"{group}.{member}" if member else group)
    return names
