"""Fix-ups: a JSONata expression that makes the event to send from the one that was refused.

JSONata reads and transforms JSON and can do nothing else: no files, no network, no Python. Time and
depth are bounded. The input is the event; where the value is no JSON, it is the value's text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from herald.dead_letters.errors import FixUpError

MAX_CHARS = 4_096
MILLISECONDS = 1_000
MAX_DEPTH = 200


class FixUp:
    """One expression, compiled. '' leaves every value as it was. Not for several threads."""

    def __init__(self, expression: str) -> None:
        self.expression = expression.strip()
        self._run: Callable[[Any], Any] | None = None
        if len(self.expression) > MAX_CHARS:
            raise FixUpError(f"fix_up: longer than {MAX_CHARS} characters")
        if self.expression:
            self._run = _compile(self.expression)

    def apply(self, value: bytes) -> bytes | None:
        """What to send instead; None where the expression gives nothing: the letter is left.

        Raises:
            FixUpError: it fails on this value, takes too long, or gives neither object nor text.
        """
        if self._run is None:
            return value
        result = self._run(_input(value))
        if result is None:
            return None
        if isinstance(result, str):
            return result.encode("utf-8", "surrogatepass")
        if isinstance(result, dict):
            return json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode()
        raise FixUpError(
            f"fix_up gives a {type(result).__name__}; it must give the event as an object, its "
            "text, or nothing to leave it out"
        )


def _compile(expression: str) -> Callable[[Any], Any]:
    # imported when first needed: most commands and the API never compile one
    from jsonata.jexception import JException
    from jsonata.jsonata import Jsonata

    try:
        compiled = Jsonata(expression)
    except (JException, RecursionError, ValueError, TypeError, LookupError) as error:
        raise FixUpError(
            f"fix_up {expression[:120]!r}: no JSONata expression: {_reason(error)}"
        ) from None

    def run(document: Any) -> Any:
        frame = compiled.create_frame()
        frame.set_runtime_bounds(MILLISECONDS, MAX_DEPTH)
        try:
            return compiled.evaluate(document, frame)
        # the library lets Python's own errors through where a function meets a wrong type
        except (JException, ArithmeticError, LookupError, RecursionError) as error:
            raise FixUpError(f"fix_up fails on this value: {_reason(error)}") from None
        except (AttributeError, TypeError, ValueError) as error:
            raise FixUpError(f"fix_up fails on this value: {type(error).__name__}") from None

    return run


def _input(value: bytes) -> Any:
    text = value.decode("utf-8", "replace")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return document if isinstance(document, dict) else text


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
