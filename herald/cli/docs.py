"""`herald docs`: reference pages and `.env.example`, generated from the code."""

from __future__ import annotations

from typing import Annotated

import typer

from herald.cli.output import emit, fail


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("docs")(docs)


def docs(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; fail when a page is stale.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write the generated pages: metrics, settings, contract, topics, .env.example."""
    from herald.reference import pages
    from herald.settings import ROOT

    stale = []
    for path, content in pages().items():
        file = ROOT / path
        if not file.is_file() or file.read_text(encoding="utf-8") != content:
            stale.append(path)
            if not check:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(content, encoding="utf-8")
    if check and stale:
        fail(f"not current: {', '.join(stale)}; run `make docs`")
    emit({"written" if not check else "stale": stale}, as_json=as_json)
