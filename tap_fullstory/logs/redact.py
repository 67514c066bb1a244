"""What may be logged: no secret in any spelling, and nothing that a terminal or a log parser would
take for anything else than text.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from html import escape
from typing import Any

HIDDEN = "***"


def redactor(secrets: Iterable[str]) -> Callable[[str], str]:
    r"""Return a function that replaces every secret in a text, however it is encoded.

    A server that quotes a secret may have escaped it for JSON (backslashes, `\u002f`), a URL
    (`%2F`) or HTML (`&#47;`, `&amp;`), more than once, too.
    """
    patterns = ["".join(map(_any_spelling, secret)) for secret in secrets if secret]
    if not patterns:
        return lambda text: text
    # The longest first: one secret may begin with another.
    pattern = re.compile("|".join(sorted(patterns, key=len, reverse=True)))
    return lambda text: pattern.sub(HIDDEN, text)


def escape_controls(text: str) -> str:
    """Return `text` on one line, with control characters, and those that reorder or hide text, as
    escapes: text from outside must not forge log lines or steer a terminal.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def redact_logs(secrets: Iterable[str]) -> None:
    """From now on, keep `secrets` out of every log line, whoever writes it, and escape controls."""
    make = logging.getLogRecordFactory()
    redact = redactor(secrets)

    def make_redacted(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        message = record.getMessage()
        safe = escape_controls(redact(message))
        if safe != message:
            record.msg, record.args = safe, ()
        return record

    logging.setLogRecordFactory(make_redacted)
    # Its lines quote URLs with their queries, which are the signatures of downloads.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


def _any_spelling(char: str) -> str:
    code = ord(char)
    forms = [
        rf"\\*{re.escape(char)}",
        rf"\\+u(?i:{code:04x})",
        rf"%(?:25)*(?i:{code:02x})",
        rf"&(?:amp;)*#0*{code};",
        rf"&(?:amp;)*#[xX]0*(?i:{code:x});",
    ]
    if (named := escape(char, quote=True)) != char:
        forms.insert(0, f"&(?:amp;)*{named[1:]}")  # before the plain `&` of which it is made
    return f"(?:{'|'.join(forms)})"
