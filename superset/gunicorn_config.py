"""How Superset is served: `gunicorn -c superset/gunicorn_config.py 'superset.app:create_app()'`.

Without `preload_app`: workers that share the parent's database connections corrupt them.
"""

from herald.settings import load_settings

_settings = load_settings()

bind = f"{_settings.superset.host}:{_settings.superset.port}"
workers = _settings.superset.workers
worker_class = "gthread"
threads = 8
timeout = 120
graceful_timeout = 20
keepalive = 5
limit_request_field_size = 16_384
accesslog = None
errorlog = "-"
loglevel = "info"
