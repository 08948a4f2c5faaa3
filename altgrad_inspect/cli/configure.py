"""Configuration for every command, in one place: a flag not given takes the configured value.

`Program` gives each of its commands ``--config``, ``--isolated`` and ``--show-settings``,
and reads the configuration before it looks at the flags. What file and environment set
becomes the default of the option that is spelled like its key, so commands need to know
nothing of it; the settings of rules, which have no flags, are in `find_trend_settings`.
"""

import inspect
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand

from altgrad_inspect.cli.talk import OutputFormat, find_talk
from altgrad_inspect.settings import TrendSettings

if TYPE_CHECKING:
    from altgrad_inspect.config import Config, Given

_PARAMETERS: Final[Mapping[str, Any]] = {
    "config": Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Read this file instead of looking for one."),
    ],
    "isolated": Annotated[
        bool,
        typer.Option(
            "--isolated", help="Ignore configuration files and environment.", show_default=False
        ),
    ],
    "show_settings": Annotated[
        bool,
        typer.Option(
            "--show-settings",
            help="Print every setting and where it came from, and exit.",
            show_default=False,
        ),
    ],
}
_DEFAULTS: Final[Mapping[str, object]] = {
    "config": None,
    "isolated": False,
    "show_settings": False,
}

_UNCONFIGURED: Final = frozenset(
    {("demo", "out"), ("diff", "out"), ("compare", "out"), ("sweep", "quant")}
)
"""Options that are spelled like a key and mean something else."""

_CURRENT: ContextVar["Config | None"] = ContextVar("config", default=None)


def find_trend_settings() -> TrendSettings:
    """Return the settings of trends and rules as configured, without the flags."""
    config = _CURRENT.get()
    return TrendSettings() if config is None else config.build(TrendSettings)


class Program(typer.Typer):
    """A Typer all of whose commands can be configured."""

    def command(self, *args: Any, **others: Any) -> Callable[[Any], Any]:
        """Register a command, as Typer does."""
        register = super().command(*args, cls=ConfiguredCommand, **others)
        return lambda function: register(_add_parameters(function))


class ConfiguredCommand(TyperCommand):
    """A command whose defaults come from the configuration."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the configuration, then the flags, which win."""
        given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        if given.get("help") or ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        from altgrad_inspect.config import read_config

        with suppress(ValueError, KeyError):  # so that errors come in the right format
            find_talk().output_format = OutputFormat(given["output_format"])
        config = read_config(
            Path.cwd(),
            os.environ,
            file=Path(given["config"]) if given.get("config") else None,
            isolated=bool(given.get("isolated")),
        )
        _CURRENT.set(config)
        keys = self._find_keys()
        ctx.default_map = {
            name: _as_default(config.given[key].value)
            for key, name in keys.items()
            if key in config.given
        }
        rest = super().parse_args(ctx, args)
        if given.get("show_settings"):
            from altgrad_inspect.cli.show_settings import show_settings

            show_settings(config, _find_flags(ctx, keys), find_talk())
            ctx.exit(0)
        return rest

    def _find_keys(self) -> dict[str, str]:
        """Return key -> name of the parameter, of the settings that this command has."""
        from altgrad_inspect.config import SETTINGS

        keys = {}
        for parameter in self.params:
            is_argument = parameter.param_type_name == "argument"
            spellings = [opt.removeprefix("--") for opt in parameter.opts]
            for key in set(spellings) & SETTINGS.keys():
                if (key == "run") == is_argument and (self.name, key) not in _UNCONFIGURED:
                    keys[key] = str(parameter.name)
        return keys


def _add_parameters(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` with the options of `_PARAMETERS`, which it is not told of."""

    @wraps(function)
    def call(*args: Any, **others: Any) -> Any:
        return function(*args, **{k: v for k, v in others.items() if k not in _PARAMETERS})

    signature = inspect.signature(function)
    added = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=_DEFAULTS[name], annotation=annotation
        )
        for name, annotation in _PARAMETERS.items()
    ]
    parameters = [*signature.parameters.values(), *added]
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {**function.__annotations__, **_PARAMETERS}
    return call


def _as_default(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _find_flags(ctx: Any, keys: Mapping[str, str]) -> "dict[str, Given]":
    """Return the settings that stand on the command line."""
    from altgrad_inspect.config import Given, Source

    flags = {}
    for key, name in keys.items():
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            flags[key] = Given(
                value=_as_setting(ctx.params[name]),
                source=Source.FLAG,
                origin=key if key == "run" else f"--{key}",
            )
    return flags


def _as_setting(value: object) -> object:
    match value:
        case list() | tuple():
            return tuple(_as_setting(member) for member in value)
        case bool() | int() | float():
            return value
        case _:
            return str(value)
