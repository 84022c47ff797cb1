"""What must be known of a statement before the engine parses it: its head, its data, its format.

The engine's own parser decides everything else. Nothing here copies the rows of an insert:
positions into the caller's buffer are returned.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

# Only what can hide or end a clause; every other byte is skipped inside the regex engine.
_TOKEN = re.compile(
    rb"""
      (?P<skip>
          '(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" | `(?:[^`\\]|\\.|``)*`
        | --[^\n]* | \#[\x20!][^\n]* | /\*.*?\*/ | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
      )
    | (?P<open>[(\[{]) | (?P<close>[)\]}]) | (?P<word>[A-Za-z_]\w*) | (?P<end>;)
    """,
    re.DOTALL | re.VERBOSE,
)
_BLANK = re.compile(rb"(?:\s|--[^\n]*(?:\n|$)|\#[ !][^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)
_NAME = re.compile(rb"[A-Za-z_]\w*")
_DATA_START = re.compile(rb"[ \t\f]*(?:\r?\n)?")
_HINT = re.compile(rb"\b(?:format|outfile|infile)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Insert:
    """An insert whose rows follow its head.

    `target` is the text before the data clause, `settings` its SETTINGS clause or empty, and the
    rows start at `data_at` of the buffer that was given.
    """

    target: bytes
    settings: bytes
    format: str
    data_at: int

    def from_file(self, path: str, compression: str = "none") -> str:
        """The same insert, reading its rows from a file of the server."""
        packed = "" if compression == "none" else f" COMPRESSION '{compression}'"
        return (
            f"{self.target.decode()}\nFROM INFILE '{path}'{packed} "
            f"{self.settings.decode()} FORMAT {self.format}"
        )


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement without rows of its own.

    `format` is that of its FORMAT clause or None; `body` ends before that clause, and `settings`
    is what stood behind it.
    """

    verb: str
    body: bytes
    format: str | None
    settings: bytes
    uses_server_files: bool


def first_word(text: bytes) -> str:
    """The first keyword in upper case, past comments and opening parentheses."""
    at = _after_blank(text, 0)
    while text[at : at + 1] == b"(":
        at = _after_blank(text, at + 1)
    word = _NAME.match(text, at)
    return word.group().decode().upper() if word else ""


def parse_insert(text: bytes) -> Insert | None:
    """Find where the rows of an insert start; None when it has none (INSERT SELECT, or no insert).

    `text` may hold the rows behind the head; only the head is read.
    """
    if first_word(text[:4096]) != "INSERT":
        return None
    depth = 0
    settings_at = -1
    previous = b""
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth -= 1
        elif kind == "skip" and token.group()[:1] in b"`\"'":
            previous = b""  # a quoted name: what follows is no name
        elif kind == "end" and depth == 0:
            return None
        elif kind == "word" and depth == 0:
            word = token.group().upper()
            named = previous in (b"INTO", b"TABLE", b"FUNCTION") and word not in (
                b"TABLE",
                b"FUNCTION",
            )
            if named or text[token.start() - 1 : token.start()] == b".":
                previous = b""
                continue
            previous = word
            if word in (b"SELECT", b"WITH", b"INFILE", b"EXPLAIN"):
                return None
            if word == b"SETTINGS":
                settings_at = token.start()
            elif word in (b"VALUES", b"FORMAT"):
                return _insert(text, token.start(), token.end(), settings_at, word)
    return None


def _insert(text: bytes, start: int, end: int, settings_at: int, word: bytes) -> Insert | None:
    cut = start if settings_at < 0 else settings_at
    settings = b"" if settings_at < 0 else text[settings_at:start].strip()
    if word == b"VALUES":
        return Insert(text[:cut].strip(), settings, "Values", end)
    name = _NAME.match(text, _after_blank(text, end))
    if name is None:
        return None
    data = _DATA_START.match(text, name.end())
    at = data.end() if data else name.end()
    return Insert(text[:cut].strip(), settings, name.group().decode(), at)


def parse_statement(text: bytes) -> Statement:
    """Split the output clauses off a statement that carries no rows."""
    text = text.strip().rstrip(b";").rstrip()
    verb = first_word(text)
    if not _HINT.search(text):
        return Statement(verb, text, None, b"", uses_server_files=False)
    depth = 0
    words: list[tuple[bytes, int, int]] = []
    files = False
    previous = b""
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth -= 1
        elif kind == "word":
            word = token.group().upper()
            files |= (previous, word) == (b"INTO", b"OUTFILE")
            files |= (verb, previous, word) == ("INSERT", b"FROM", b"INFILE")
            previous = word
            if depth == 0:
                words.append((word, token.start(), token.end()))
    for (word, start, end), (_, name_at, name_end) in reversed(list(pairwise(words))):
        rest = text[name_end:].strip()
        if (
            word == b"FORMAT"
            and not text[end:name_at].strip()
            and (not rest or rest[:8].upper() == b"SETTINGS")
        ):
            name = text[name_at:name_end].decode()
            return Statement(verb, text[:start].rstrip(), name, rest, files)
    return Statement(verb, text, None, b"", files)


def _after_blank(text: bytes, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at
