"""Superset's REST API: what the command line, the demo and the tests ask of it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import httpx
import yaml

from herald.dashboards.assets import (
    DATABASE_NAME,
    SUPERSET_DIR,
    AssetError,
    Assets,
    Document,
    dump,
)
from herald.dashboards.generate import DATABASE_UUID
from herald.settings import Settings

FilterValue = str | int | float | bool | Sequence[str]


class SupersetError(Exception):
    """Superset refused something; the message says what was asked and what it answered."""


class SupersetClient:
    """A logged-in administrator. Use as a context manager."""

    def __init__(self, settings: Settings, *, timeout_seconds: float = 120.0):
        self.settings = settings
        self.http = httpx.Client(base_url=settings.superset.url, timeout=timeout_seconds)

    def __enter__(self) -> SupersetClient:
        """Log in."""
        try:
            self.login(
                self.settings.superset.user, self.settings.superset.password.get_secret_value()
            )
        except httpx.TransportError as error:
            self.http.close()
            raise SupersetError(
                f"Superset at {self.settings.superset.url} does not answer: {error} "
                "(is it up? `herald status`)"
            ) from error
        except SupersetError:
            self.http.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.http.close()

    def login(self, user: str, password: str) -> None:
        """Take a token for a user and the CSRF token that writing needs."""
        body = {"username": user, "password": password, "provider": "db", "refresh": False}
        token = self.request("POST", "/api/v1/security/login", json=body)["access_token"]
        self.http.headers["Authorization"] = f"Bearer {token}"
        csrf = self.request("GET", "/api/v1/security/csrf_token/")["result"]
        self.http.headers["X-CSRFToken"] = csrf
        self.http.headers["Referer"] = self.settings.superset.url

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Send a request and return its JSON answer.

        Raises:
            SupersetError: the answer is not a success.
        """
        response = self.http.request(method, path, **arguments)
        if response.is_error:
            raise SupersetError(
                f"{method} {path} answered {response.status_code}: {response.text[:800]}"
            )
        return response.json() if response.content else {}

    def listed(self, resource: str, *, filters: Sequence[Mapping[str, Any]] = ()) -> list[Document]:
        """All entries of a resource, e.g. `dashboard`, `dataset`, `security/roles`."""
        entries: list[Document] = []
        while True:
            # page_size is capped by the server, so ask until nothing is left
            query = json.dumps(
                {"filters": list(filters), "page": len(entries) // 100, "page_size": 100}
            )
            page = self.request("GET", f"/api/v1/{resource}/", params={"q": query})
            entries += page["result"]
            if len(entries) >= page["count"] or not page["result"]:
                return entries

    # --- assets ---------------------------------------------------------------------------------

    def import_assets(self, assets: Assets) -> None:
        """Overwrite databases, datasets, charts and dashboards by their uuid."""
        bundle, passwords = self._bundle(assets)
        self.request(
            "POST",
            "/api/v1/assets/import/",
            files={"bundle": ("herald.zip", bundle, "application/zip")},
            data={"passwords": json.dumps(passwords)},
        )

    def _bundle(self, assets: Assets) -> tuple[bytes, dict[str, str]]:
        warehouse = self.settings.warehouse
        passwords: dict[str, str] = {}
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, document in assets.files.items():
                content = dict(document)
                if name.startswith("databases/"):
                    content["sqlalchemy_uri"] = (
                        f"clickhousedb://{warehouse.reader_user}:XXXXXXXXXX@"
                        f"{warehouse.host}:{warehouse.port}/marts"
                        + ("?secure=true" if warehouse.secure else "")
                    )
                    passwords[name] = warehouse.reader_password.get_secret_value()
                archive.writestr(f"herald/{name}", dump(content))
        return buffer.getvalue(), passwords

    def export_assets(self) -> Assets:
        """Everything that Superset holds, as an assets bundle."""
        response = self.http.get("/api/v1/assets/export/")
        if response.is_error:
            raise SupersetError(f"export answered {response.status_code}: {response.text[:800]}")
        files: dict[str, Document] = {}
        with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
            for name in archive.namelist():
                files[name.partition("/")[2]] = yaml.safe_load(archive.read(name))
        return Assets(files)

    def apply_access(self, access: Mapping[str, Any], roles: Mapping[str, Any]) -> None:
        """Set what a bundle cannot carry: dashboards' roles, the base rule, the connection's grant.

        Args:
            access: content of superset/access.yaml.
            roles: content of superset/roles.yaml.
        """
        role_ids = {r["name"]: r["id"] for r in self.listed("security/roles")}
        for slug, names in access["dashboards"].items():
            self._named(role_ids, names, f"access.yaml: {slug}")
            board = self.request("GET", f"/api/v1/dashboard/{slug}")["result"]
            self.request(
                "PUT",
                f"/api/v1/dashboard/{board['id']}",
                json={"roles": [role_ids[n] for n in names], "published": True},
            )
        self._base_rule(access["row_level_base"], role_ids)
        for name, spec in roles.items():
            if spec.get("warehouse"):
                self._grant_warehouse(role_ids[name])

    def _base_rule(self, rule: Mapping[str, Any], role_ids: Mapping[str, int]) -> None:
        self._named(role_ids, rule["exempt"], "access.yaml: row_level_base")
        body = {
            "name": rule["name"],
            "filter_type": "Base",
            "clause": rule["clause"],
            "tables": [d["id"] for d in self.listed("dataset")],
            "roles": [role_ids[n] for n in rule["exempt"]],
        }
        known = {r["name"]: r["id"] for r in self.listed("rowlevelsecurity")}
        if rule["name"] in known:
            self.request("PUT", f"/api/v1/rowlevelsecurity/{known[rule['name']]}", json=body)
        else:
            self.request("POST", "/api/v1/rowlevelsecurity/", json=body)

    def _grant_warehouse(self, role_id: int) -> None:
        wanted = f"[{DATABASE_NAME}].(id:{self.database_id()})"
        grants = [
            g["id"]
            for g in self.listed("security/permissions-resources")
            if g["permission"]["name"] == "database_access" and g["view_menu"]["name"] == wanted
        ]
        if not grants:
            raise SupersetError(f"Superset has no permission database_access on {wanted}")
        path = f"/api/v1/security/roles/{role_id}/permissions"
        held = {g["id"] for g in self.request("GET", path + "/")["result"]}
        if not set(grants) <= held:
            self.request(
                "POST", path, json={"permission_view_menu_ids": sorted(held | set(grants))}
            )

    @staticmethod
    def _named(role_ids: Mapping[str, int], names: Sequence[str], where: str) -> None:
        unknown = sorted(set(names) - set(role_ids))
        if unknown:
            raise AssetError(f"{where}: no such role: {', '.join(unknown)}")

    # --- reading --------------------------------------------------------------------------------

    def database_id(self) -> int:
        """Id of the warehouse's connection."""
        for database in self.listed("database"):
            if database["uuid"] == DATABASE_UUID:
                return int(database["id"])
        raise SupersetError(f"no connection {DATABASE_NAME!r}; run `herald superset import`")

    def dataset_id(self, table: str) -> int:
        """Id of the dataset of a mart."""
        for dataset in self.listed(
            "dataset", filters=[{"col": "table_name", "opr": "eq", "value": table}]
        ):
            return int(dataset["id"])
        raise SupersetError(f"no dataset {table!r}; run `herald superset import`")

    def metric_value(
        self,
        metric: str,
        filters: Mapping[str, FilterValue] | None = None,
        *,
        table: str = "fct_engagement_hourly",
        time_range: str | None = None,
    ) -> float | None:
        """One number through the chart data API, past the cache.

        Args:
            metric: name of a saved metric of the dataset.
            filters: column to value, or to several values.
            table: the mart to ask.
            time_range: `<ISO start> : <ISO end>` on the dataset's time column; None is all time.
        """
        conditions: list[Document] = []
        for column, value in (filters or {}).items():
            several = isinstance(value, Sequence) and not isinstance(value, str)
            conditions.append({"col": column, "op": "IN" if several else "==", "val": value})
        query: Document = {
            "metrics": [metric],
            "columns": [],
            "filters": conditions,
            "row_limit": 1,
        }
        if time_range:
            column = self.request("GET", f"/api/v1/dataset/{self.dataset_id(table)}")["result"][
                "main_dttm_col"
            ]
            query |= {"granularity": column, "time_range": time_range}
        body = {
            "datasource": {"id": self.dataset_id(table), "type": "table"},
            "queries": [query],
            "result_format": "json",
            "result_type": "full",
            "force": True,
        }
        rows = self.request("POST", "/api/v1/chart/data", json=body)["result"][0]["data"]
        answer = rows[0][metric] if rows else None
        return None if answer is None else float(answer)

    def run_sql(self, sql: str, *, limit: int = 1000) -> list[Document]:
        """Rows of a query through SQL Lab."""
        body = {
            "database_id": self.database_id(),
            "sql": sql,
            "schema": "marts",
            "queryLimit": limit,
            "runAsync": False,
            "client_id": None,
        }
        rows: list[Document] = self.request("POST", "/api/v1/sqllab/execute/", json=body)["data"]
        return rows

    def refresh_columns(self, table: str) -> dict[str, str]:
        """Read a dataset's columns anew from the warehouse; name to type as Superset sees them."""
        dataset = self.dataset_id(table)
        self.request("PUT", f"/api/v1/dataset/{dataset}/refresh")
        columns = self.request("GET", f"/api/v1/dataset/{dataset}")["result"]["columns"]
        return {c["column_name"]: c["type"] for c in columns}


def read_access() -> tuple[Document, Document]:
    """Contents of superset/access.yaml and superset/roles.yaml."""
    access, roles = (
        yaml.safe_load((SUPERSET_DIR / f"{name}.yaml").read_text(encoding="utf-8"))
        for name in ("access", "roles")
    )
    return access, roles
