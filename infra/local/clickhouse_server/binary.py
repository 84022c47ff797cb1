"""A `clickhouse` binary in place of the embedded engine: same address, same users."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path
from xml.sax.saxutils import escape

from herald.settings import Settings
from infra.local.clickhouse_server.config import READER_GRANTS

_CHANGEABLE = (
    "max_execution_time", "max_threads", "max_result_rows", "max_result_bytes",
    "result_overflow_mode", "log_comment", "session_timezone",
)  # fmt: skip

_CONFIG = """<clickhouse>
  <logger><level>warning</level><console>1</console></logger>
  <timezone>UTC</timezone>
  <listen_host>{host}</listen_host>
  <http_port>{port}</http_port>
  <path>{data}/</path>
  <tmp_path>{data}/tmp/</tmp_path>
  <user_files_path>{data}/user_files/</user_files_path>
  <format_schema_path>{data}/format_schemas/</format_schema_path>
  <max_server_memory_usage>{memory}</max_server_memory_usage>
  <max_concurrent_queries>{queries}</max_concurrent_queries>
  <mark_cache_size>268435456</mark_cache_size>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
  <ignore_empty_sql_security_in_create_view_query>0</ignore_empty_sql_security_in_create_view_query>
  <access_control_improvements>
    <settings_constraints_replace_previous>true</settings_constraints_replace_previous>
  </access_control_improvements>
  <user_directories><users_xml><path>{users}</path></users_xml></user_directories>
  <query_log>
    <database>system</database><table>query_log</table>
    <flush_interval_milliseconds>2000</flush_interval_milliseconds>
    <ttl>event_date + INTERVAL {log_days} DAY</ttl>
  </query_log>
</clickhouse>
"""

_USERS = """<clickhouse>
  <profiles>
    <default>
      <async_insert>0</async_insert>
      <queue_max_wait_ms>{queue_ms}</queue_max_wait_ms>
      <default_view_definer>CURRENT_USER</default_view_definer>
      <default_normal_view_sql_security>DEFINER</default_normal_view_sql_security>
    </default>
    <reader>
      <readonly>1</readonly>
      <max_execution_time>{seconds}</max_execution_time>
      <constraints>{constraints}</constraints>
    </reader>
  </profiles>
  <quotas><default/></quotas>
  <users>
    <{writer}>
      <password_sha256_hex>{writer_hash}</password_sha256_hex>
      <networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
      <access_management>1</access_management>
    </{writer}>
    <{reader}>
      <password_sha256_hex>{reader_hash}</password_sha256_hex>
      <networks><ip>::/0</ip></networks><profile>reader</profile><quota>default</quota>
      <grants>{grants}</grants>
    </{reader}>
  </users>
</clickhouse>
"""


def run(settings: Settings) -> int:
    """Become the `clickhouse` server of the PATH. Returns 1 when there is none."""
    program = shutil.which("clickhouse")
    if program is not None:
        config = write_server_config(settings)
        sys.stdout.write(f"starting {program} with {config}\n")
        sys.stdout.flush()
        os.chdir(config.parent)
        os.execv(program, [program, "server", f"--config-file={config}"])
    sys.stderr.write(
        "HERALD_WAREHOUSE__ENGINE=clickhouse, but there is no `clickhouse` on the PATH: "
        "install it, or set the engine to chdb\n"
    )
    return 1


def write_server_config(settings: Settings) -> Path:
    """Write the server's configuration; passwords go in as SHA-256 only. Returns its path."""
    warehouse = settings.warehouse
    root = (settings.state_dir / "clickhouse" / "server").resolve()
    data, etc = root / "data", root / "etc"
    data.mkdir(parents=True, exist_ok=True)
    etc.mkdir(mode=0o700, exist_ok=True)
    users, config = etc / "users.xml", etc / "config.xml"
    limit = f"<max>{warehouse.max_execution_seconds}</max>"
    constraints = "".join(
        f"<{name}>{limit if name == 'max_execution_time' else ''}<changeable_in_readonly/></{name}>"
        for name in _CHANGEABLE
    )
    users.touch(mode=0o600)
    users.write_text(
        _USERS.format(
            queue_ms=int(warehouse.queue_timeout_seconds * 1000),
            seconds=warehouse.max_execution_seconds,
            constraints=constraints,
            writer=warehouse.user,
            writer_hash=_sha256(warehouse.password.get_secret_value()),
            reader=warehouse.reader_user,
            reader_hash=_sha256(warehouse.reader_password.get_secret_value()),
            grants="".join(f"<query>{escape(grant)}</query>" for grant in READER_GRANTS),
        )
    )
    config.write_text(
        _CONFIG.format(
            host=warehouse.host,
            port=warehouse.port,
            data=escape(str(data)),
            users=escape(str(users)),
            memory=warehouse.max_memory_bytes,
            queries=warehouse.max_concurrent_queries,
            log_days=settings.retention.query_log_days or 36_500,
        )
    )
    return config


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
