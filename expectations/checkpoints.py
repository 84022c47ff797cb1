"""Which suites exist, and which of them make the gate of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules

import expectations.suites
from expectations.model import LAYERS, Suite
from herald.settings import Settings


class UnknownSuiteError(Exception):
    """A suite or layer that does not exist; the message lists those that do."""


def all_suites(settings: Settings) -> dict[str, Suite]:
    """Every suite by name, in the order in which data flows."""
    found = [
        import_module(f"expectations.suites.{module.name}").suite(settings)
        for module in iter_modules(expectations.suites.__path__)
    ]
    ordered = sorted(found, key=lambda suite: (LAYERS.index(suite.layer), suite.name))
    return {suite.name: suite for suite in ordered}


def select_suites(
    settings: Settings, names: Sequence[str] = (), layers: Sequence[str] = ()
) -> list[Suite]:
    """Suites by name or layer; all of them when neither is given.

    Raises:
        UnknownSuiteError: a name or layer that does not exist.
    """
    known = all_suites(settings)
    wrong = [name for name in names if name not in known]
    if wrong:
        raise UnknownSuiteError(f"no suite {', '.join(wrong)}; known: {', '.join(known)}")
    odd = [layer for layer in layers if layer not in LAYERS]
    if odd:
        raise UnknownSuiteError(f"no layer {', '.join(odd)}; known: {', '.join(LAYERS)}")
    if not names and not layers:
        return list(known.values())
    return [s for s in known.values() if s.name in names or s.layer in layers]
