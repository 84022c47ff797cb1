"""The ASGI application: ClickHouse's HTTP interface."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from herald.settings import Warehouse
from infra.local.clickhouse_server.admission import Admission
from infra.local.clickhouse_server.answer import Answer, Send
from infra.local.clickhouse_server.body import Body, Receive, read_body
from infra.local.clickhouse_server.engine import Cost, Engine, Job
from infra.local.clickhouse_server.errors import ClientLeftError, Code, ServerError, refuse
from infra.local.clickhouse_server.pipe import ResultPipe
from infra.local.clickhouse_server.plan import Plan, make_plan
from infra.local.clickhouse_server.request import Request, parse_request
from infra.local.clickhouse_server.sessions import HttpSession, Sessions
from infra.local.clickhouse_server.users import User, Users

LOG = logging.getLogger("herald.warehouse_server")
_HOLD_BYTES = 1 << 20
"""A result up to this size gets its true status and summary; a larger one streams."""
_KILL_AGAIN_SECONDS = 0.2


class Application:
    """ClickHouse's HTTP interface over an engine."""

    def __init__(self, warehouse: Warehouse, engine: Engine, spool: Path) -> None:
        self._engine = engine
        self._spool = spool
        self._max_seconds = warehouse.max_execution_seconds
        self._users = Users(warehouse)
        self._sessions = Sessions()
        self._running: set[str] = set()
        self._admission = Admission(
            warehouse.max_concurrent_queries,
            warehouse.max_queued_queries,
            warehouse.queue_timeout_seconds,
        )
        self._threads = ThreadPoolExecutor(warehouse.max_concurrent_queries, "query")
        self._killers = ThreadPoolExecutor(1, "kill")

    def close(self) -> None:
        """Wait for what runs and close the sessions."""
        self._threads.shutdown()
        self._killers.shutdown()
        self._sessions.close()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer = Answer(send, self._engine.timezone, self._engine.host)
        if scope["path"] != "/" or scope["method"] not in ("GET", "POST"):
            await _answer_without_query(scope, answer)
            return
        body = Body()
        try:
            request = parse_request(scope)
            answer.describe(request)
            user = self._users.login(request)
            body = await read_body(scope, request, receive, self._spool)
            plan = make_plan(request, user, body, self._engine, self._max_seconds)
            await self._query(request, user, plan, receive, answer)
        except ServerError as error:
            await answer.fail(error)
        except ClientLeftError:
            return
        except Exception as error:
            LOG.exception("request failed")
            await answer.fail(refuse(Code.UNKNOWN_EXCEPTION, repr(error)))
        finally:
            body.close()

    async def _query(
        self, request: Request, user: User, plan: Plan, receive: Receive, answer: Answer
    ) -> None:
        """Wait for a turn and run, as long as the client is there."""
        if request.query_id in self._running:
            raise refuse(
                Code.QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING,
                f"Query with id = {request.query_id} is already running.",
            )
        session: HttpSession | None = None
        if request.session_id:
            session = self._sessions.enter(
                user.name, request.session_id, must_exist=request.session_check
            )
        self._running.add(request.query_id)
        gone = asyncio.ensure_future(_leaves(receive))
        try:
            await self._admission.enter(user.name, gone)
            try:
                # the reader can make nothing that lasts, so its sessions need no connection
                held = None if user.is_reader else session
                if plan.is_piped:
                    await self._stream(request, plan, held, gone, answer)
                else:
                    await self._write(plan, held, answer)
            finally:
                self._admission.leave()
        finally:
            gone.cancel()
            self._running.discard(request.query_id)
            if session is not None:
                self._sessions.leave(session, request.session_timeout)

    async def _write(self, plan: Plan, session: HttpSession | None, answer: Answer) -> None:
        """Run a statement that changes something; it goes on when its client leaves."""
        work = self._start(plan.job, session, None)
        cost = await work
        if cost.data:
            answer.shape(plan.job.format, "")
        await answer.whole(cost.data, cost)

    async def _stream(
        self,
        request: Request,
        plan: Plan,
        session: HttpSession | None,
        gone: asyncio.Future[None],
        answer: Answer,
    ) -> None:
        """Run a statement with a result; stop it when its client leaves."""
        pipe = ResultPipe()
        plan.job.sql = plan.piped_sql(pipe.writer, request.answer_encoding)
        answer.shape(plan.job.format, request.answer_encoding)
        gone.add_done_callback(lambda _: pipe.abort())
        work = self._start(plan.job, session, pipe)
        held = bytearray()
        try:
            while data := await pipe.read():
                if answer.has_started:
                    async with asyncio.timeout(self._max_seconds):
                        await answer.part(data)
                    continue
                held += data
                if len(held) > _HOLD_BYTES and not request.waits_for_end:
                    await answer.begin()
                    await answer.part(bytes(held))
                    held.clear()
            cost = await work
        except BaseException:
            await self._stop(plan.job, work, pipe)
            raise
        finally:
            pipe.close()
        if answer.has_started:
            await answer.end()
        else:
            await answer.whole(bytes(held), cost)

    async def _stop(self, job: Job, work: asyncio.Future[Cost], pipe: ResultPipe) -> None:
        """Kill a running query. Closing the pipe frees an engine that waits to write."""
        loop = asyncio.get_running_loop()
        while not work.done():
            # again and again: a query that is just starting cannot be found yet
            await loop.run_in_executor(self._killers, self._engine.kill, job.comment)
            pipe.close()
            await asyncio.wait({work}, timeout=_KILL_AGAIN_SECONDS)
        if not work.cancelled():
            work.exception()

    def _start(
        self, job: Job, session: HttpSession | None, pipe: ResultPipe | None
    ) -> asyncio.Future[Cost]:
        return asyncio.get_running_loop().run_in_executor(
            self._threads, self._run, job, session, pipe
        )

    def _run(self, job: Job, session: HttpSession | None, pipe: ResultPipe | None) -> Cost:
        """In a thread of its own: the engine lets go of the interpreter while it works."""
        try:
            if session is None:
                return self._engine.run(job)
            if session.connection is None:
                session.connection = self._engine.connect()
            return self._engine.run(job, session.connection)
        finally:
            if pipe is not None:
                pipe.close_writer()


async def _leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def _answer_without_query(scope: dict[str, Any], answer: Answer) -> None:
    path = scope["path"]
    if path in ("/ping", "/replicas_status"):
        await answer.whole(b"Ok.\n", None)
    elif path == "/":
        await answer.whole(b"Use GET or POST.\n", None, 405)
    else:
        text = f"There is no handle {path}\n\nUse / or /ping for health checks.\n"
        await answer.whole(text.encode(), None, 404)
