"""What a reader of the live page wants to see: a tenant, filters, people or machines, a window."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

Window = Literal[1, 5, 15, 60]
LiveAudience = Literal["all", "human", "machine"]
WINDOWS: tuple[Window, ...] = get_args(Window)
MAX_VALUE = 256

COLUMNS = {
    "tenant": "tenant_id",
    "campaign": "campaign_id",
    "variant": "variant_id",
    "channel": "channel",
    "country": "country",
}
"""Filter, and the rollup's column that it holds to a value."""


class FilterError(ValueError):
    """Filters that cannot be used; the message names each field, its value and the fix."""


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


Value = Annotated[str, Field(max_length=MAX_VALUE)]


class LiveFilters(BaseModel):
    """One view of the live page. Two readers with equal filters share one poller.

    tenant: '' is every tenant together. The others: '' is no filter. `audience` chooses whose opens
    and clicks count; sends and deliveries are the same for all. window: minutes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: Value = ""
    campaign: Value = ""
    variant: Value = ""
    channel: Value = ""
    country: Value = ""
    audience: LiveAudience = "all"
    window: Annotated[Window, BeforeValidator(_number)] = 15

    @classmethod
    def read(cls, given: dict[str, Any]) -> LiveFilters:
        """From a query string or a client's message.

        Raises:
            FilterError: a name that is no filter, or a value that cannot be used.
        """
        try:
            return cls(**{k: v for k, v in given.items() if v is not None})
        except ValidationError as error:
            raise FilterError("; ".join(_problem(e) for e in error.errors())) from error

    def chosen(self) -> dict[str, str]:
        """Filters that are set, by name."""
        return {name: value for name in COLUMNS if (value := getattr(self, name))}

    def condition(self) -> str:
        """SQL over a rollup's columns; the values are bound by `parameters`."""
        return " AND ".join(
            ["1", *(f"{COLUMNS[name]} = {{{name}:String}}" for name in self.chosen())]
        )

    def parameters(self) -> dict[str, str]:
        """Values of the condition."""
        return self.chosen()


def _problem(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{name}: no such filter; known: {', '.join(LiveFilters.model_fields)}"
    return f"{name}={error.get('input')!r}: {error['msg']}"
