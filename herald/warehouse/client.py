"""The one way to the warehouse. Nothing above it knows which engine answers."""

from __future__ import annotations

from typing import Literal

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from herald.settings import Warehouse
from herald.warehouse.errors import WarehouseDownError

Role = Literal["writer", "reader"]


def connect(
    warehouse: Warehouse, role: Role = "writer", *, timeout_seconds: float = 300.0, **settings: str
) -> Client:
    """Open a client as the writer (owns raw, live, governance) or the reader (marts, live).

    Args:
        warehouse: where it is, and the passwords of both users.
        role: which user to be.
        timeout_seconds: longest wait for an answer.
        settings: ClickHouse settings for every query of this client.

    Raises:
        WarehouseDownError: nothing answers there, or it refuses the login.
    """
    user, password = (
        (warehouse.user, warehouse.password)
        if role == "writer"
        else (warehouse.reader_user, warehouse.reader_password)
    )
    try:
        return clickhouse_connect.get_client(
            host=warehouse.host,
            port=warehouse.port,
            username=user,
            password=password.get_secret_value(),
            secure=warehouse.secure,
            send_receive_timeout=timeout_seconds,
            # one session a client would serialise its callers on the server
            autogenerate_session_id=False,
            settings=dict(settings),
        )
    except (ClickHouseError, OSError) as error:
        raise WarehouseDownError(
            f"warehouse at {warehouse.host}:{warehouse.port} does not answer as {user!r}: "
            f"{str(error).splitlines()[0]} (is it up? `herald status`)"
        ) from error
