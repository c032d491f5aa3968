"""Values as JSON for a page: in an element of HTML, or in a file that a page loads as a script.

A page on a disk may load scripts but not read files, so frame lists come as scripts that call a function with them.
"""

from __future__ import annotations

import json
from typing import Any

from vsscli.printable import printable


def page_json(values: Any) -> str:
    """JSON in ASCII in which nothing ends a script element or begins a comment; text is made visible by `printable`."""
    text = json.dumps(_shown(values), allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def call_script(function: str, *values: Any) -> bytes:
    """A script that calls a function of the page."""
    return f"{function}({','.join(map(page_json, values))});\n".encode("ascii")


def _shown(values: Any) -> Any:
    if isinstance(values, str):
        return printable(values)
    if isinstance(values, dict):
        return {printable(str(key)): _shown(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_shown(value) for value in values]
    return values
