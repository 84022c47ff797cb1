"""Builds the service. Nothing is read or connected at import."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry

from api import page, problems
from api.judging import BatchJudge
from api.landing_figures import LandingFigures
from api.live_hub import Hub
from api.routes import alerts, dead_letters, events, health, live, metrics
from api.security import MIN_TOKEN, Keyring
from api.telemetry import RequestTelemetry
from herald.alerts.telemetry import AlertFigures
from herald.contract.judging import Limits
from herald.engine.engine import AnalyticsEngine
from herald.intake.build import IntakeHolder
from herald.settings import Settings, SettingsError, load_settings

log = logging.getLogger(__name__)

DESCRIPTION = """Herald's metrics, each defined once. Send `Authorization: Bearer <token>`.
Every answer names the date scope, the version of each definition and how fresh the data is.
Every error is a problem document (RFC 9457) with a `code`."""


def create_app(
    settings: Settings | None = None, *, reload: Callable[[], Settings] = load_settings
) -> FastAPI:
    """The application.

    Args:
        settings: read with `load_settings` when None, as uvicorn's workers do.
        reload: reads the settings anew on SIGHUP.

    Raises:
        SettingsError: settings cannot be used, or the token is missing or too short.
    """
    settings = settings or load_settings()
    token = settings.api.password.get_secret_value()
    if len(token) < MIN_TOKEN:
        raise SettingsError(
            f"HERALD_API__PASSWORD=(hidden): the API's token needs {MIN_TOKEN} characters or more; "
            "`herald up` generates one, or set it"
        )
    registry = CollectorRegistry()
    judge = BatchJudge(Limits.of(settings.landing))
    figures = LandingFigures(settings)
    registry.register(figures)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = AnalyticsEngine(settings, surface="api", registry=registry)
        app.state.engine = engine
        app.state.intake = IntakeHolder(settings, judge, registry)
        app.state.live = Hub(settings, registry)
        _reload_on_hangup(engine, reload)
        try:
            yield
        finally:
            await app.state.live.close()
            await asyncio.to_thread(engine.close)
            await asyncio.to_thread(app.state.intake.close)
            await asyncio.to_thread(figures.close)

    app = FastAPIOffline(
        title="Herald",
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        responses=problems.RESPONSES,
        redoc_url=None,
    )
    app.state.keyring = Keyring(token)
    app.state.live_settings = settings.live
    app.state.registry = registry
    app.state.alerts = alerts.Desk(settings)
    registry.register(AlertFigures(app.state.alerts.store, HTTPException))
    app.state.settings = settings
    app.state.intake_settings = settings.intake
    problems.install(app)
    app.add_middleware(RequestTelemetry, registry=registry)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(alerts.router)
    app.include_router(events.router)
    app.include_router(dead_letters.router)
    app.include_router(live.router)
    page.install(app)
    return app


def _reload_on_hangup(engine: AnalyticsEngine, reload: Callable[[], Settings]) -> None:
    def hangup() -> None:
        try:
            settings = reload()
        except SettingsError:
            log.exception("reload refused, the old settings stay")
        else:
            engine.reload(settings.engine)
            log.warning("settings reloaded: engine")

    try:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup)
    except (ValueError, RuntimeError):
        # not the main thread: whoever runs the loop there reloads by itself
        log.debug("no reload by SIGHUP outside the main thread")
