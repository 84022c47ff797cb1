"""`herald superset`: dashboards as code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from herald.cli.output import emit, fail
from herald.dashboards import check_dashboards, import_assets, normalise
from herald.dashboards import generate as generator
from herald.dashboards.assets import AssetError, Assets
from herald.dashboards.browser import BrowserError
from herald.dashboards.client import SupersetClient, SupersetError, read_access
from herald.dashboards.models import read_models
from herald.dashboards.validate import validate as find_problems
from herald.settings import load_settings

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
commands = typer.Typer(help="Superset: dashboards as code.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(commands, name="superset")


@commands.command()
def generate(
    check: Annotated[bool, typer.Option(help="Write nothing; fail on a difference.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the datasets from dbt's documentation and the metric registry."""
    try:
        changes = generator.difference(generator.render()) if check else generator.write()
    except AssetError as error:
        fail(str(error))
    emit(changes, as_json=as_json)
    if check and any(changes.values()):
        fail("the datasets differ from their sources; run `herald superset generate`")


@commands.command()
def validate(as_json: AsJson = False) -> None:
    """Check the assets against the dbt marts and each other, without a server."""
    try:
        problems = [
            *generator.check(),
            *find_problems(Assets.read(), read_models(), read_access()[0]),
        ]
    except AssetError as error:
        fail(str(error))
    emit([{"problem": problem} for problem in problems], as_json=as_json)
    if problems:
        fail(f"{len(problems)} problems in superset/assets")


@commands.command(name="import")
def import_(as_json: AsJson = False) -> None:
    """Overwrite Superset's content with superset/assets, and set roles."""
    try:
        emit(import_assets(load_settings()), as_json=as_json)
    except (AssetError, SupersetError) as error:
        fail(str(error))


@commands.command()
def export(as_json: AsJson = False) -> None:
    """Write charts and dashboards as they are in Superset now into superset/assets."""
    try:
        with SupersetClient(load_settings()) as client:
            changed = normalise.write(client.export_assets())
    except (AssetError, SupersetError) as error:
        fail(str(error))
    emit([{"changed": name} for name in changed], as_json=as_json)


@commands.command()
def check(
    out: Annotated[Path | None, typer.Option(help="Folder of the pictures.")] = None,
    as_json: AsJson = False,
) -> None:
    """Open every dashboard in a browser; fail on any chart that does not draw."""
    settings = load_settings()
    try:
        records = check_dashboards(settings, out or settings.state_dir / "screenshots")
    except (BrowserError, SupersetError) as error:
        fail(str(error))
    emit(records, as_json=as_json)
    failed = [record["slug"] for record in records if record["errors"]]
    if failed:
        fail(f"errors on {', '.join(failed)}")


@commands.command()
def screenshot(
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path("docs/images"),
    as_json: AsJson = False,
) -> None:
    """Take the pictures of the documentation, made small."""
    from herald.dashboards.pictures import shrink

    try:
        records = check_dashboards(load_settings(), out)
    except (BrowserError, SupersetError) as error:
        fail(str(error))
    for record in records:
        record["bytes"] = shrink(Path(record["screenshot"]))
    emit(records, as_json=as_json)
