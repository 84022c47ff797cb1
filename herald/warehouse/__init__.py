"""The ClickHouse client, migrations and names of the warehouse."""
