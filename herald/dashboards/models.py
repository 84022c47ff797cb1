"""The marts as dbt documents them, read from its YAML files: no credentials, no dbt process."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from herald.dashboards.assets import AssetError, load
from herald.settings import ROOT

MARTS_DIR = ROOT / "dbt_project" / "models" / "marts"
_DOCS_BLOCK = re.compile(r"\{%-?\s*docs\s+(\w+)\s*-?%\}(.*?)\{%-?\s*enddocs\s*-?%\}", re.S)
_DOC_CALL = re.compile(r"\{\{\s*doc\(\s*['\"](?:\w+['\"]\s*,\s*['\"])?(\w+)['\"]\s*\)\s*\}\}")


@dataclass(frozen=True)
class Column:
    """A column of a mart: its ClickHouse type and what it means."""

    name: str
    data_type: str
    description: str

    @property
    def is_temporal(self) -> bool:
        """Whether it is a date or a time."""
        return bool(re.match(r"(Nullable\()?(LowCardinality\()?Date", self.data_type))

    @property
    def is_numeric(self) -> bool:
        """Whether it can be added up."""
        return bool(re.match(r"(Nullable\()?(U?Int|Float|Decimal)", self.data_type))

    @property
    def is_state(self) -> bool:
        """Whether it holds the state of an aggregate function."""
        return self.data_type.startswith(("AggregateFunction", "SimpleAggregateFunction"))


@dataclass(frozen=True)
class Model:
    """A dbt model of the marts."""

    name: str
    description: str
    owner: str
    columns: Mapping[str, Column]
    grain: tuple[str, ...] = ()


def read_models(folder: Path = MARTS_DIR) -> dict[str, Model]:
    """Every model documented below a folder, by name.

    Raises:
        AssetError: a model's column has no `data_type`, or two files document one model.
    """
    docs = _read_docs(folder.parents[1] if folder == MARTS_DIR else folder)
    models: dict[str, Model] = {}
    for path in sorted([*folder.rglob("*.yml"), *folder.rglob("*.yaml")]):
        document = load(path.read_text(encoding="utf-8")) or {}
        for entry in document.get("models") or []:
            name = str(entry["name"])
            if name in models:
                raise AssetError(f"{path.name}: model {name} is documented twice")
            models[name] = _model(entry, docs, path)
    if not models:
        raise AssetError(f"no dbt model is documented below {folder}")
    return models


def _model(entry: Mapping[str, Any], docs: Mapping[str, str], path: Path) -> Model:
    config = entry.get("config") or {}
    meta = {**(entry.get("meta") or {}), **(config.get("meta") or {})}
    columns = {}
    for column in entry.get("columns") or []:
        name = str(column["name"])
        data_type = str(column.get("data_type") or "")
        if not data_type:
            raise AssetError(f"{path.name}: {entry['name']}.{name} has no data_type")
        columns[name] = Column(name, data_type, _text(column.get("description"), docs))
    return Model(
        name=str(entry["name"]),
        description=_text(entry.get("description"), docs),
        owner=str(meta.get("owner") or ""),
        columns=columns,
        grain=tuple(map(str, meta.get("grain") or ())),
    )


def _read_docs(folder: Path) -> dict[str, str]:
    blocks: dict[str, str] = {}
    for path in sorted(folder.rglob("*.md")):
        if "dbt_packages" not in path.parts and "target" not in path.parts:
            for name, text in _DOCS_BLOCK.findall(path.read_text(encoding="utf-8")):
                blocks[name] = " ".join(text.split())
    return blocks


def _text(value: object, docs: Mapping[str, str]) -> str:
    def block(match: re.Match[str]) -> str:
        try:
            return docs[match[1]]
        except KeyError:
            raise AssetError(f"doc block {match[1]!r} is not written anywhere") from None

    return " ".join(_DOC_CALL.sub(block, str(value or "")).split())
