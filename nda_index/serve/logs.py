"""The log of a service: lines for people, or JSON for programs, with the id of the request that they are about."""

from __future__ import annotations

import json
import logging
import re
import uuid
from contextvars import ContextVar
from datetime import datetime, timezone

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")  # of the request that is being served
REQUESTS = logging.getLogger("nda_index.requests")

_SENT = re.compile(r"[A-Za-z0-9._:-]{1,64}")  # ids that are taken over; others could write lines of their own


def choose_request_id(sent: str) -> str:
    """Return the id that a request brought along, or a new one.

    Example:
        >>> choose_request_id("a-1"), len(choose_request_id("a b"))
        ('a-1', 32)
    """
    return sent if _SENT.fullmatch(sent) else uuid.uuid4().hex


class TextFormatter(logging.Formatter):
    """A line for people, with the request's id at its end."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        request = f" [{REQUEST_ID.get()}]" if REQUEST_ID.get() else ""
        first, newline, rest = super().format(record).partition("\n")
        return f"{first}{request}{newline}{rest}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line; what a record has as `facts` stands beside its message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        values = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **({"request_id": REQUEST_ID.get()} if REQUEST_ID.get() else {}),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        return json.dumps(values)


def configure_logs(as_json: bool) -> None:
    """Write the log to standard error; if `as_json`, warnings and a line for each request too."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter("%(levelname)s:     %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.captureWarnings(as_json)
    logging.getLogger("nda_index").setLevel(logging.INFO)
    REQUESTS.setLevel(logging.INFO if as_json else logging.WARNING)
