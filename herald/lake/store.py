"""Where the lake is: the S3 file system and the Iceberg catalog of the settings."""

from __future__ import annotations

from urllib.parse import quote

from pyarrow import fs
from pyiceberg.catalog import Catalog, load_catalog
from sqlalchemy.exc import SQLAlchemyError

from herald.settings import Lake, Postgres, Settings

CATALOG = "herald"


class LakeError(Exception):
    """The lake cannot be used, or contradicts the warehouse; the message says how to go on."""


def filesystem(lake: Lake) -> fs.S3FileSystem:
    """File system of the lake's S3 server."""
    scheme, _, address = lake.url.partition("://")
    return fs.S3FileSystem(
        access_key=lake.access_key.get_secret_value(),
        secret_key=lake.secret_key.get_secret_value(),
        endpoint_override=address,
        scheme=scheme,
        region=lake.region,
        connect_timeout=5,
        request_timeout=60,
        allow_bucket_creation=True,
    )


def catalog_uri(lake: Lake, postgres: Postgres) -> str:
    """Address of the catalog: the settings' own, else database `lake` of PostgreSQL."""
    if own := lake.catalog_uri.get_secret_value():
        return own
    password = quote(postgres.password.get_secret_value(), safe="")
    return (
        f"postgresql+psycopg://{quote(postgres.user, safe='')}:{password}"
        f"@{postgres.host}:{postgres.port}/lake"
    )


def open_catalog(settings: Settings) -> Catalog:
    """The catalog; a SQL one makes its tables by itself.

    Raises:
        LakeError: it does not answer.
    """
    lake = settings.lake
    uri = catalog_uri(lake, settings.postgres)
    kind = "rest" if uri.startswith(("http://", "https://")) else "sql"
    try:
        return load_catalog(
            CATALOG,
            **{
                "type": kind,
                "uri": uri,
                "warehouse": f"s3://{lake.bucket}/{CATALOG}",
                "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
                "s3.endpoint": lake.url,
                "s3.access-key-id": lake.access_key.get_secret_value(),
                "s3.secret-access-key": lake.secret_key.get_secret_value(),
                "s3.region": lake.region,
            },
        )
    except (SQLAlchemyError, OSError) as error:
        raise LakeError(
            f"the lake's catalog does not answer: {type(error).__name__} "
            "(is PostgreSQL up? `herald up lake`; another one: HERALD_LAKE__CATALOG_URI)"
        ) from error
