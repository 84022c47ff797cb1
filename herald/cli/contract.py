"""`herald contract`: is it compatible with what was released, and what does a change need."""

from __future__ import annotations

from typing import Annotated

import typer

from herald.cli.output import emit, fail

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands of the contract."""
    contract = typer.Typer(help="The event contract and its versions.", no_args_is_help=True)
    contract.command("check")(check_contract)
    contract.command("release")(release_contract)
    contract.command("migration")(contract_migration)
    app.add_typer(contract, name="contract")


def check_contract(as_json: Json = False) -> None:
    """Compare the contract with every released version. Exit code 1 when it breaks one."""
    from herald.contract.compatibility import (
        check,
        check_examples,
        compare,
        describe,
        released,
    )

    current, versions = describe(), released()
    problems = check(current, versions) + check_examples()
    changes = [
        {"since": version, "kind": c.kind, "where": c.where, "what": c.what}
        for version, description in versions.items()
        for c in compare(description, current)
    ]
    verdict = "incompatible" if problems else "compatible"
    is_released = current["version"] in versions
    if as_json:
        emit(
            {
                "verdict": verdict,
                "version": current["version"],
                "released": is_released,
                "changes": changes,
                "problems": [{"since": v, "where": c.where, "what": c.what} for v, c in problems],
            },
            as_json=True,
        )
    elif changes:
        emit(changes, as_json=False)
    if problems:
        lines = [f"{c.where}: {c.what} (since {version})" for version, c in problems]
        fail(f"contract {current['version']} breaks its promise:\n  " + "\n  ".join(lines))
    if not as_json:
        state = "released" if is_released else "not yet released: `herald contract release`"
        typer.echo(
            f"contract {current['version']} ({state}) keeps what {', '.join(versions)} promised"
        )


def release_contract() -> None:
    """Keep the contract of this code as a released version."""
    from herald.contract.compatibility import ContractError, release

    try:
        path = release()
    except ContractError as error:
        fail(str(error))
    typer.echo(f"written: {path.name}" if path else "released already")


def contract_migration(
    since: Annotated[
        str, typer.Option(help="Released version to start from; '' for the newest other one.")
    ] = "",
) -> None:
    """Print the migration from a released version to the contract of this code."""
    from herald.contract.compatibility import describe, released
    from herald.contract.evolution import migration

    versions, current = released(), describe()
    others = [version for version in versions if version != current["version"]] or list(versions)
    start = since or others[-1]
    if start not in versions:
        fail(f"--since {since!r}: not released; one of {', '.join(versions)}")
    sql = migration(versions[start], current)
    typer.echo(sql or f"-- nothing: no field is new since {start}", nl=not sql)
