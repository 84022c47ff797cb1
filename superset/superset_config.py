"""Superset's configuration, found by SUPERSET_CONFIG_PATH and built from Herald's settings.

This module is read once by each Superset process at its start: it is the `main` of that process,
which is why settings are loaded here at import and nowhere else in the project.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote

from sqlalchemy.engine import URL

from herald.settings import load_settings

_settings = load_settings()
_secret = _settings.superset.secret_key.get_secret_value()
if not _secret:
    raise RuntimeError(
        "HERALD_SUPERSET__SECRET_KEY is empty: set it, or let `herald up` generate the secrets"
    )

# --- metadata, secrets, sessions -------------------------------------------------------------
SECRET_KEY = _secret
SQLALCHEMY_DATABASE_URI = URL.create(
    "postgresql+psycopg2",
    username=_settings.postgres.user,
    password=_settings.postgres.password.get_secret_value() or None,
    host=_settings.postgres.host,
    port=_settings.postgres.port,
    database="superset",
).render_as_string(hide_password=False)
WTF_CSRF_ENABLED = True
WTF_CSRF_TIME_LIMIT = int(timedelta(days=1).total_seconds())
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_HTTPONLY = True
GUEST_TOKEN_JWT_SECRET = _secret + ":guest"
GUEST_ROLE_NAME = "Public"

# --- caches: what a chart answers is kept a minute, less than the marts' hour ------------------
_valkey_password = _settings.valkey.password.get_secret_value()
_valkey = (
    "redis://"
    + (f":{quote(_valkey_password, safe='')}@" if _valkey_password else "")
    + f"{_settings.valkey.host}:{_settings.valkey.port}"
)


def _cache(name: str, seconds: int) -> dict[str, Any]:
    return {
        "CACHE_TYPE": "RedisCache",
        "CACHE_REDIS_URL": f"{_valkey}/1",
        "CACHE_KEY_PREFIX": f"superset:{name}:",
        "CACHE_DEFAULT_TIMEOUT": seconds,
    }


_DAY = 86_400
CACHE_CONFIG = _cache("metadata", 300)
DATA_CACHE_CONFIG = _cache("data", 60)
FILTER_STATE_CACHE_CONFIG = _cache("filters", 90 * _DAY)
EXPLORE_FORM_DATA_CACHE_CONFIG = _cache("explore", 7 * _DAY)
THUMBNAIL_CACHE_CONFIG = _cache("thumbnails", 7 * _DAY)

# --- limits ------------------------------------------------------------------------------------
RATELIMIT_ENABLED = True
# a dashboard asks for its twenty charts and their scripts at once
RATELIMIT_APPLICATION = "300 per second"
RATELIMIT_STORAGE_URI = f"{_valkey}/2"
AUTH_RATE_LIMITED = True
AUTH_RATE_LIMIT = "10 per second"
ROW_LIMIT = 10_000
SQL_MAX_ROW = 100_000
SQLLAB_TIMEOUT = 60
SUPERSET_WEBSERVER_TIMEOUT = 90

# --- what is on --------------------------------------------------------------------------------
# Pictures and alerts by Superset itself (THUMBNAILS, ALERT_REPORTS) need a Celery worker; off.
FEATURE_FLAGS = {
    "CHART_PLUGINS_EXPERIMENTAL": True,
    "DASHBOARD_RBAC": True,
    "EMBEDDED_SUPERSET": True,
    "ENABLE_TEMPLATE_PROCESSING": True,
    "TAGGING_SYSTEM": True,
}


class CeleryConfig:
    """Never SQLite files in the working folder, which is Superset's default."""

    broker_url = f"{_valkey}/3"
    result_backend = f"{_valkey}/3"


CELERY_CONFIG = CeleryConfig
LANGUAGES: dict[str, Any] = {}
BUG_REPORT_URL = None
DOCUMENTATION_URL = None

# --- the browser talks to this host only --------------------------------------------------------
# Superset's menu holds a telemetry pixel of another host; without that host in img-src and
# connect-src the browser refuses to load it.
TALISMAN_ENABLED = True
TALISMAN_CONFIG = {
    "content_security_policy": {
        "base-uri": ["'self'"],
        "default-src": ["'self'"],
        "img-src": ["'self'", "blob:", "data:"],
        "worker-src": ["'self'", "blob:"],
        "connect-src": ["'self'"],
        "object-src": "'none'",
        "style-src": ["'self'", "'unsafe-inline'"],
        "font-src": ["'self'", "data:"],
        "script-src": ["'self'", "'strict-dynamic'"],
        "frame-ancestors": ["'self'"],
    },
    "content_security_policy_nonce_in": ["script-src"],
    "force_https": False,
    "session_cookie_secure": False,
}

# --- looks -------------------------------------------------------------------------------------
APP_NAME = "Herald"
LOGO_TOOLTIP = "Herald"


def _logo(mark: str, text: str) -> str:
    """Address of the word mark: a horn's three sound waves, then the name."""
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="132" height="32" viewBox="0 0 132 32">'
        f'<rect x="1" y="3" width="26" height="26" rx="7" fill="{mark}"/>'
        '<path d="M8 13v6h3l5 4V9l-5 4z" fill="#fff"/>'
        '<path d="M18.5 12.5a5 5 0 0 1 0 7M21 10a8.500 8.500 0 0 1 0 12" fill="none" '
        'stroke="#fff" stroke-width="1.800" stroke-linecap="round"/>'
        f'<text x="36" y="22.500" font-family="Inter,Helvetica,Arial,sans-serif" font-size="19" '
        f'font-weight="600" letter-spacing="-.3" fill="{text}">Herald</text></svg>'
    )
    return "data:image/svg+xml;utf8," + quote(svg)


FAVICONS = [{"href": "/static/assets/images/favicon.png"}]
_TOKENS = {
    "brandAppName": APP_NAME,
    "brandLogoAlt": APP_NAME,
    "brandLogoHref": "/",
    "brandLogoHeight": "28px",
    "brandLogoMargin": "16px 0",
    "brandIconMaxWidth": 140,
    "colorError": "#c8473f",
    "colorWarning": "#d98e2b",
    "colorSuccess": "#3f8f6b",
    "borderRadius": 8,
    "fontUrls": [],
    "fontFamily": "Inter, Helvetica, Arial, sans-serif",
    "fontFamilyCode": "'IBM Plex Mono', 'Courier New', monospace",
    "transitionTiming": 0.2,
    "fontSizeXS": "8",
    "fontSizeXXL": "28",
    "fontWeightNormal": "400",
    "fontWeightLight": "400",
    "fontWeightStrong": "600",
    "fontWeightBold": "700",
}
THEME_DEFAULT = {
    "token": {
        **_TOKENS,
        "brandLogoUrl": _logo("#1f5f7a", "#16323f"),
        "colorPrimary": "#1f6f8b",
        "colorLink": "#1f6f8b",
        "colorInfo": "#3b6fb6",
        "colorTextBase": "#1c2b33",
        "colorBgLayout": "#f4f6f7",
        "colorBorderSecondary": "#e3e9ec",
        "colorEditorSelection": "#d8ebf2",
    },
    "algorithm": "default",
}
THEME_DARK = {
    "token": {
        **_TOKENS,
        "brandLogoUrl": _logo("#2f8aa8", "#e8f0f3"),
        "colorPrimary": "#4fa8c4",
        "colorLink": "#6bb8d1",
        "colorInfo": "#6c98d6",
        "colorBgBase": "#12191d",
        "colorEditorSelection": "#1f4656",
    },
    "algorithm": "dark",
}
# A channel keeps its colour from chart to chart; the dashboards name them (label_colors).
EXTRA_CATEGORICAL_COLOR_SCHEMES = [
    {
        "id": "herald",
        "label": "Herald",
        "description": "Distinct in print and for colour-blind readers; red is kept for trouble.",
        "isDefault": True,
        "colors": [
            "#1f6f8b", "#e0903a", "#5aa17f", "#8a6fb3", "#3b6fb6", "#c9b037",
            "#a8637a", "#6b8794", "#9bc1ce", "#f0bf88", "#a9cfbb", "#c4b4da",
        ],
    }
]  # fmt: skip
EXTRA_SEQUENTIAL_COLOR_SCHEMES = [
    {
        "id": "herald_depth",
        "label": "Herald depth",
        "description": "Light to deep: more is darker.",
        "isDefault": True,
        "isDiverging": False,
        "colors": ["#e6f0f3", "#b9d6df", "#7fb3c4", "#418fa7", "#1f6f8b", "#154c60"],
    }
]
