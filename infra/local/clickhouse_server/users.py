"""Who may come in: two users, their passwords kept as salted hashes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from herald.settings import Warehouse
from infra.local.clickhouse_server.errors import Code, refuse
from infra.local.clickhouse_server.request import Request


@dataclass(frozen=True, slots=True)
class User:
    """A user; the hash is SHA-256 over salt and password, as in ClickHouse's users file."""

    name: str
    is_reader: bool
    salt: bytes
    digest: bytes

    def accepts(self, password: str) -> bool:
        """Whether the password is right, in constant time."""
        return hmac.compare_digest(self.digest, _digest(self.salt, password))


class Users:
    """The users of the warehouse by name."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._users = {
            user.name: user
            for user in (
                _user(warehouse.user, warehouse.password.get_secret_value(), is_reader=False),
                _user(
                    warehouse.reader_user,
                    warehouse.reader_password.get_secret_value(),
                    is_reader=True,
                ),
            )
        }

    def login(self, request: Request) -> User:
        """The user of a request. Raises ServerError 516 (wrong) or 194 (nothing given)."""
        user = self._users.get(request.user)
        if user is not None and user.accepts(request.password):
            return user
        if not request.has_login:
            raise refuse(
                Code.REQUIRED_PASSWORD, "No user and password given: use Basic authentication"
            )
        raise refuse(
            Code.AUTHENTICATION_FAILED,
            f"{request.user}: Authentication failed: password is incorrect, or there is no user "
            "with such name.",
        )


def _user(name: str, password: str, *, is_reader: bool) -> User:
    salt = secrets.token_bytes(16)
    return User(name, is_reader, salt, _digest(salt, password))


def _digest(salt: bytes, password: str) -> bytes:
    return hashlib.sha256(salt + password.encode()).digest()
