"""The lake: landed events as Iceberg tables in S3."""
