"""`multipart/form-data` bodies: form parameters and external tables."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from infra.local.clickhouse_server.errors import Code, refuse

_NAME = re.compile(rb'name="([^"]*)"')
_FILENAME = re.compile(rb"filename\*?=")
_BOUNDARY = re.compile(r'boundary="?([^";]+)"?')


@dataclass(slots=True)
class Form:
    """Plain fields by name, and files (rows of external tables) by name."""

    fields: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


def parse_form(body: bytes, content_type: str) -> Form:
    """Take a form apart. Raises ServerError when it has no boundary or a part has no name."""
    found = _BOUNDARY.search(content_type)
    if not found:
        raise refuse(Code.BAD_ARGUMENTS, f"Content-Type {content_type!r} names no boundary")
    form = Form()
    for part in (b"\r\n" + body).split(b"\r\n--" + found.group(1).encode())[1:]:
        if part.startswith(b"--"):
            break
        head, _, data = part.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if not name:
            raise refuse(Code.BAD_ARGUMENTS, "a part of the form has no name")
        target = form.files if _FILENAME.search(head) else form.fields
        target[name.group(1).decode()] = data
    return form
