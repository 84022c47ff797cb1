"""The words of the templates, read from `texts.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

LANGUAGES = ("en", "de", "fr", "es", "pt")
"""Languages with a text of their own; everybody else reads English."""


@dataclass(frozen=True, slots=True)
class Words:
    """One template's text: two subjects to test against each other, body, button."""

    subject_a: str
    subject_b: str
    body: str
    call_to_action: str

    def subject(self, variant: int) -> str:
        """Subject of the first variant, or of every other."""
        return self.subject_a if variant == 0 else self.subject_b


@cache
def themes() -> dict[str, dict[str, Words]]:
    """Theme name to its words by language."""
    text = Path(__file__).with_name("texts.yaml").read_text(encoding="utf-8")
    return {
        theme: {language: Words(**fields) for language, fields in languages.items()}
        for theme, languages in yaml.safe_load(text).items()
    }


def words(theme: str, language: str) -> Words:
    """Text of a theme in a language, or in English when there is none."""
    texts = themes()[theme]
    return texts.get(language, texts["en"])
