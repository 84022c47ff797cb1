"""The engine's own configuration, written at each start from Herald's settings."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from herald.settings import Settings
from infra.local.clickhouse_server.querylog import ENGINE_TABLE

WRITER_ROLE = "herald_writer_role"
READER_ROLE = "herald_reader_role"

READER_GRANTS = (
    "GRANT SELECT ON marts.*",
    "GRANT SELECT ON live.*",
    "GRANT SELECT ON raw.landed_ranges",
    "GRANT SELECT ON governance.quality_results",
    "GRANT SELECT ON system.query_log",
)

_CONFIG = """<clickhouse>
  <logger><level>none</level></logger>
  <timezone>UTC</timezone>
  <max_server_memory_usage>{memory}</max_server_memory_usage>
  <mark_cache_size>268435456</mark_cache_size>
  <ignore_empty_sql_security_in_create_view_query>0</ignore_empty_sql_security_in_create_view_query>
  <users_config>{users}</users_config>
  <user_directories><users_xml><path>{users}</path></users_xml></user_directories>
  <query_log>
    <database>system</database><table>{log}</table>
    <flush_interval_milliseconds>2000</flush_interval_milliseconds>
  </query_log>
</clickhouse>
"""

_USERS = """<clickhouse>
  <profiles><default>
    <async_insert>0</async_insert>
    <implicit_select>0</implicit_select>
    <log_queries>1</log_queries>
    <default_view_definer>CURRENT_USER</default_view_definer>
    <default_normal_view_sql_security>DEFINER</default_normal_view_sql_security>
  </default></profiles>
  <quotas><default/></quotas>
  <roles>
    <{writer}><grants><query>GRANT ALL ON *.* WITH GRANT OPTION</query></grants></{writer}>
    <{reader}><grants>{grants}</grants></{reader}>
  </roles>
  <users><default>
    <password/><profile>default</profile><quota>default</quota>
    <networks><ip>::/0</ip></networks>
    <grants><query>GRANT {writer}, {reader}</query></grants>
  </default></users>
</clickhouse>
"""


@dataclass(frozen=True, slots=True)
class EnginePaths:
    """Where the engine keeps its data and finds its configuration."""

    data: Path
    config: Path
    spool: Path
    log_days: int

    @property
    def dsn(self) -> str:
        """Connection string; every connection of the process must give the same."""
        return f"{self.data}?config-file={self.config}"


def write_config(settings: Settings) -> EnginePaths:
    """Write the configuration files under `<state_dir>/clickhouse`, readable by the owner only."""
    root = (settings.state_dir / "clickhouse").resolve()
    data, etc, spool = root / "data", root / "etc", root / "spool"
    data.mkdir(parents=True, exist_ok=True)
    etc.mkdir(mode=0o700, exist_ok=True)
    users = etc / "users.xml"
    grants = "".join(f"<query>{grant}</query>" for grant in READER_GRANTS)
    users.write_text(_USERS.format(writer=WRITER_ROLE, reader=READER_ROLE, grants=grants))
    config = etc / "config.xml"
    config.write_text(
        _CONFIG.format(
            memory=settings.warehouse.max_memory_bytes,
            users=escape(str(users)),
            log=ENGINE_TABLE,
        )
    )
    return EnginePaths(data, config, spool, settings.retention.query_log_days or 36_500)


def clean_spool(paths: EnginePaths) -> None:
    """Empty the folder of large insert bodies, whatever an earlier process left there."""
    shutil.rmtree(paths.spool, ignore_errors=True)
    paths.spool.mkdir(parents=True)
