"""The folder of Superset assets: where files are, what they are called, how they are written."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from herald.settings import ROOT

SUPERSET_DIR = ROOT / "superset"
ASSETS_DIR = SUPERSET_DIR / "assets"
NAMESPACE = uuid.UUID("6f1f7f0e-5d0b-5a51-9a0c-2b8d3c2f4e10")
DATABASE_NAME = "Herald warehouse"
DATABASE_SLUG = "herald_warehouse"

Document = dict[str, Any]


class AssetError(Exception):
    """Assets that cannot be used; the message names file and field."""


def asset_uuid(kind: str, slug: str) -> str:
    """The stable id of an asset: the same on every installation."""
    return str(uuid.uuid5(NAMESPACE, f"{kind}/{slug}"))


def slugify(text: str) -> str:
    """A file name's first part: lower case words joined by underscores."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def file_name(slug: str, asset_id: str) -> str:
    """`<slug>_<first 8 of the uuid>.yaml`."""
    return f"{slug}_{asset_id[:8]}.yaml"


class _Dumper(yaml.CSafeDumper):
    """Writes a value again where it occurs twice, instead of an anchor."""

    def ignore_aliases(self, data: object) -> bool:
        """Never."""
        return True


def load(text: str) -> Any:
    """YAML as Python values, ten times as fast as the parser written in Python."""
    return yaml.load(text, Loader=yaml.CSafeLoader)


def dump(document: Mapping[str, Any]) -> str:
    """One document as YAML, in the order of its keys."""
    text: str = yaml.dump(
        dict(document),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
        default_flow_style=False,
    )
    return text


@dataclass(frozen=True)
class Assets:
    """All documents of an assets folder, by path relative to it."""

    files: Mapping[str, Document]

    @classmethod
    def read(cls, folder: Path = ASSETS_DIR) -> Assets:
        """Read every YAML file below a folder.

        Raises:
            AssetError: the folder has no asset, or a file is not a YAML mapping.
        """
        files: dict[str, Document] = {}
        for path in sorted(folder.rglob("*.yaml")):
            name = path.relative_to(folder).as_posix()
            try:
                document = load(path.read_text(encoding="utf-8"))
            except yaml.YAMLError as error:
                raise AssetError(f"{name}: not YAML: {error}") from error
            if not isinstance(document, dict):
                raise AssetError(f"{name}: holds no mapping")
            files[name] = document
        if not files:
            raise AssetError(
                f"no assets below {folder}; write them with `herald superset generate`"
            )
        return cls(files)

    def of(self, kind: str) -> Iterator[tuple[str, Document]]:
        """Paths and documents of one kind: databases, datasets, charts or dashboards."""
        return ((n, d) for n, d in self.files.items() if n.split("/")[0] == kind)

    def by_uuid(self, kind: str) -> dict[str, Document]:
        """Documents of one kind by their uuid."""
        return {str(document.get("uuid")): document for _, document in self.of(kind)}

    def dashboard(self, slug: str) -> Document:
        """The dashboard of a slug."""
        for _, document in self.of("dashboards"):
            if document.get("slug") == slug:
                return document
        known = ", ".join(sorted(str(d.get("slug")) for _, d in self.of("dashboards")))
        raise AssetError(f"no dashboard has the slug {slug!r}; known: {known}")


def chart_nodes(dashboard: Mapping[str, Any]) -> list[Document]:
    """The charts in a dashboard's layout, as its `meta` mappings."""
    position = dashboard.get("position") or {}
    return [
        node["meta"]
        for node in position.values()
        if isinstance(node, dict) and node.get("type") == "CHART"
    ]
