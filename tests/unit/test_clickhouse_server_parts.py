"""Parts of the warehouse server without a server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from infra.local.clickhouse_server.admission import Admission
from infra.local.clickhouse_server.answer import content_type
from infra.local.clickhouse_server.errors import ClientLeftError, ServerError, engine_error
from infra.local.clickhouse_server.multipart import parse_form
from infra.local.clickhouse_server.request import external_tables, parse_request
from infra.local.clickhouse_server.rows import RowFile, decompress
from infra.local.clickhouse_server.sessions import Sessions


def _scope(url: str = "", headers: dict[str, str] | None = None) -> dict[str, Any]:
    pairs = [(k.encode(), v.encode()) for k, v in (headers or {}).items()]
    return {"headers": pairs, "query_string": url.encode(), "client": ("10.0.0.1", 5)}


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_url_is_split_when_it_mixes_settings_parameters_and_interface() -> None:
    request = parse_request(
        _scope(
            "query=SELECT%201&max_threads=2&param_a=x%26y&database=d&default_format=CSV"
            "&session_id=s&session_timeout=5&t_structure=a+Int8",
            {"user-agent": "me", "accept-encoding": "gzip;q=1, zstd", "content-encoding": "LZ4"},
        )
    )
    assert request.query == b"SELECT 1"
    assert request.settings == {"max_threads": "2"}
    assert request.params == {"a": "x&y"}
    assert (request.database, request.format) == ("d", "CSV")
    assert (request.session_id, request.session_timeout) == ("s", 5)
    assert (request.address, request.agent) == ("10.0.0.1", "me")
    assert (request.answer_encoding, request.content_encoding) == ("", "lz4")
    assert not request.has_login
    assert len(request.query_id) == 36


def test_encoding_is_chosen_when_compression_is_asked_for() -> None:
    headers = {"accept-encoding": "gzip, zstd, identity"}
    asked = parse_request(_scope("enable_http_compression=1", headers))
    assert asked.answer_encoding == "zstd"
    unknown = parse_request(_scope("enable_http_compression=1", {"accept-encoding": "compress"}))
    assert unknown.answer_encoding == ""


@pytest.mark.parametrize(
    "url", ["session_timeout=-1", "session_timeout=x", "decompress=1", "a-b=1"]
)
def test_request_is_refused_when_a_value_makes_no_sense(url: str) -> None:
    with pytest.raises(ServerError):
        parse_request(_scope(url))


def test_external_tables_are_described_when_the_url_names_them() -> None:
    assert external_tables(_scope("t_format=CSV&t_structure=a+Int8&u_types=Int8&max_x=1")) == {
        "t": {"format": "CSV", "structure": "a Int8"},
        "u": {"types": "Int8"},
    }


def test_form_is_taken_apart_when_it_has_fields_and_files() -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="query"\r\n\r\nSELECT\r\n1\r\n'
        b'--b\r\nContent-Disposition: form-data; name="t"; filename="t.csv"\r\n\r\n1,2\r\n'
        b"\r\n--b--\r\n"
    )
    form = parse_form(body, 'multipart/form-data; boundary="b"')
    assert form.fields == {"query": b"SELECT\r\n1"}
    assert form.files == {"t": b"1,2\r\n"}
    with pytest.raises(ServerError, match="boundary"):
        parse_form(body, "multipart/form-data")
    with pytest.raises(ServerError, match="no name"):
        parse_form(b"--b\r\nX: y\r\n\r\n1\r\n--b--", "multipart/form-data; boundary=b")


def test_rows_move_to_disk_when_they_outgrow_memory(tmp_path: Path) -> None:
    file = RowFile(tmp_path, memory_bytes=10)
    file.write(b"12345")
    assert not file.is_on_disk
    file.write(memoryview(b"6789012345"))
    file.write(b"x" * 100)
    assert file.is_on_disk
    assert file.size == 115
    assert Path(file.path).read_bytes() == b"123456789012345" + b"x" * 100
    assert list(tmp_path.iterdir()) == []
    descriptors = _open_files()
    file.close()
    file.close()
    assert _open_files() == descriptors - 1


def test_body_is_refused_when_its_encoding_is_unknown() -> None:
    assert decompress(b"x", "identity") == b"x"
    with pytest.raises(ServerError, match="'rot13'"):
        decompress(b"x", "rot13")


@pytest.mark.parametrize(
    ("code", "status"),
    [(62, 400), (60, 404), (159, 408), (202, 503), (497, 403), (194, 401), (241, 500)],
)
def test_status_is_clickhouse_s_when_the_engine_fails(code: int, status: int) -> None:
    error = engine_error(f"Code: {code}. DB::Exception: default: why. (NAME)", "bob", "26.9")
    assert (error.code, error.status) == (code, status)
    assert error.message == f"Code: {code}. DB::Exception: bob: why. (NAME) (version 26.9 (chDB))"


def test_error_has_a_code_when_the_engine_gives_none() -> None:
    assert engine_error("broken", "bob", "26.9").code == 1002


def test_media_type_is_told_when_a_format_has_one() -> None:
    assert content_type("JSONEachRow") == "application/json; charset=UTF-8"
    assert content_type("PrettyCompact") == "text/plain; charset=UTF-8"
    assert content_type("Native") == "application/octet-stream"


class TestAdmission:
    @staticmethod
    def _stays() -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    async def test_users_take_turns_when_one_of_them_floods(self) -> None:
        admission = Admission(slots=1, queued=10, timeout_seconds=5)
        await admission.enter("x", self._stays())
        order: list[str] = []

        async def ask(user: str, name: str) -> None:
            await admission.enter(user, self._stays())
            order.append(name)
            admission.leave()

        asks = [asyncio.ensure_future(ask("flood", f"flood-{n}")) for n in range(4)]
        await asyncio.sleep(0)
        asks.append(asyncio.ensure_future(ask("small", "small-0")))
        await asyncio.sleep(0)
        assert admission.queued == 5
        admission.leave()
        await asyncio.gather(*asks)
        assert order == ["flood-0", "small-0", "flood-1", "flood-2", "flood-3"]
        assert (admission.running, admission.queued) == (0, 0)

    async def test_query_is_refused_when_the_queue_is_full_or_slow(self) -> None:
        admission = Admission(slots=1, queued=1, timeout_seconds=0.05)
        await admission.enter("a", self._stays())
        waiting = asyncio.ensure_future(admission.enter("a", self._stays()))
        await asyncio.sleep(0)
        with pytest.raises(ServerError, match="1 running and 1 waiting"):
            await admission.enter("b", self._stays())
        with pytest.raises(ServerError, match=r"Waited 0\.05 s"):
            await waiting
        assert (admission.running, admission.queued) == (1, 0)

    async def test_place_is_free_when_a_waiting_client_leaves(self) -> None:
        admission = Admission(slots=1, queued=5, timeout_seconds=5)
        await admission.enter("a", self._stays())
        gone = self._stays()
        waiting = asyncio.ensure_future(admission.enter("a", gone))
        cancelled = asyncio.ensure_future(admission.enter("b", self._stays()))
        await asyncio.sleep(0)
        gone.set_result(None)
        with pytest.raises(ClientLeftError):
            await waiting
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        admission.leave()
        assert (admission.running, admission.queued) == (0, 0)

    async def test_slot_is_given_back_when_turn_and_departure_coincide(self) -> None:
        admission = Admission(slots=1, queued=5, timeout_seconds=5)
        await admission.enter("a", self._stays())
        gone = self._stays()
        waiting = asyncio.ensure_future(admission.enter("a", gone))
        await asyncio.sleep(0)
        gone.set_result(None)
        admission.leave()
        with pytest.raises(ClientLeftError):
            await waiting
        assert admission.running == 0


class TestSessions:
    class Connection:
        closed = False

        def close(self) -> None:
            self.closed = True

    def test_session_is_closed_when_its_time_is_over(self) -> None:
        now = [100.0]
        sessions = Sessions(clock=lambda: now[0])
        session = sessions.enter("u", "s", must_exist=False)
        session.connection = connection = self.Connection()
        now[0] = 1_000.0
        sessions.expire()
        assert not connection.closed, "a busy session stays"
        sessions.leave(session, timeout_seconds=10)
        assert sessions.enter("u", "s", must_exist=True) is session
        sessions.leave(session, timeout_seconds=10)
        now[0] = 1_010.0
        with pytest.raises(ServerError, match="not found"):
            sessions.enter("u", "s", must_exist=True)
        assert connection.closed

    def test_session_is_one_user_s_when_another_uses_its_name(self) -> None:
        sessions = Sessions()
        mine = sessions.enter("u", "s", must_exist=False)
        assert sessions.enter("v", "s", must_exist=False) is not mine
        with pytest.raises(ServerError, match="locked"):
            sessions.enter("u", "s", must_exist=False)
        mine.connection = connection = self.Connection()
        sessions.close()
        assert connection.closed
        assert len(sessions) == 0
