"""The settings of every service, and what each adds: from flags, the environment and a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from sat_bus.contract.messages import Name
from sat_bus.service.settings_file import BUS, DRIVERS, read_settings
from sat_bus.transport.endpoint import ACCEPTED as URL_ACCEPTED
from sat_bus.transport.endpoint import parse_url
from sat_toolkit.errors import ConfigError

PREFIX = "SAT_"
_OF_THE_BUS = ("broker_url", "site", "tls_ca")
_SECRET = ("broker_url",)


class ServiceSettings(BaseSettings):
    """Settings of every service. Flags win over the environment (``SAT_<NAME>``), that over the
    TOML file (``config``), that over the defaults. Use `load`.

    Attributes:
        table: the table of the settings file that is this service's own; each names one.
    """

    table: ClassVar[str]

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, validate_default=False
    )  # fmt: skip

    broker_url: str = Field("mqtt://127.0.0.1:1883", description=URL_ACCEPTED)
    site: Name = Field("lab", description="1 to 64 of A-Z a-z 0-9 _ . : -")
    plugins: str = Field("", description=f"folders of plugins, separated by {os.pathsep!r}")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug, info, warning or error"
    )  # fmt: skip
    log_format: Literal["console", "json"] = Field("console", description="console or json")
    tls_ca: Path | None = Field(None, description="a readable file of PEM certificates")
    alive_file: Path | None = Field(
        None, description="a file in a folder that is there and that we may write to"
    )
    config: Path | None = Field(None, description="a TOML file of settings")

    @field_validator("broker_url")
    @classmethod
    def _is_broker_url(cls, value: str) -> str:
        try:
            parse_url(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator("tls_ca")
    @classmethod
    def _is_file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError("no such file")
        return value

    @property
    def plugin_folders(self) -> tuple[Path, ...]:
        """The folders of `plugins`."""
        return tuple(Path(part) for part in self.plugins.split(os.pathsep) if part)

    @classmethod
    def places(cls) -> dict[str, str]:
        """Setting -> its table in the settings file; empty for one that is a table itself."""
        return {
            name: BUS if name in _OF_THE_BUS else "" if name == DRIVERS else cls.table
            for name in cls.model_fields
            if name != "config"
        }

    @classmethod
    def load(cls, **flags: Any) -> Self:
        """The settings; flags that are None count as not given.

        Raises:
            ConfigError: a setting is wrong; the message names it, where it comes from and what it
                takes.
        """
        given = {name: value for name, value in flags.items() if value is not None}
        unknown = given.keys() - cls.model_fields.keys()
        if unknown:
            raise ConfigError(f"no such setting: {', '.join(sorted(unknown))}")
        try:
            return cls(**given)
        except ValidationError as error:
            raise ConfigError(_explain(cls, error, given)) from None
        except SettingsError as error:
            raise ConfigError(_explain_json(cls, error)) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, TOML file; nothing else is looked at."""
        del dotenv_settings, file_secret_settings
        path = _config_path(init_settings().get("config"))
        file = InitSettingsSource(settings_cls, read_settings(path, cls.places()))
        return init_settings, env_settings, file


def _config_path(flag: Any) -> Path | None:
    value = flag or os.environ.get(f"{PREFIX}CONFIG")
    return Path(value) if value else None


def _explain_json(cls: type[ServiceSettings], error: SettingsError) -> str:
    """A variable that holds a structure is JSON; one that is not JSON does not become a
    ValidationError."""
    for name, field in cls.model_fields.items():
        if f'"{name}"' in str(error):
            takes = f"; accepted: {field.description}" if field.description else ""
            return f"{PREFIX}{name.upper()} is no JSON ({error.__cause__}){takes}"
    return str(error)


def _explain(cls: type[ServiceSettings], error: ValidationError, flags: Mapping[str, Any]) -> str:
    """One line for each wrong setting: source, what is wrong, what it takes."""
    path, places = _config_path(flags.get("config")), cls.places()
    in_file = read_settings(path, places)
    lines = []
    for item in error.errors(include_url=False, include_context=False):
        name = str(item["loc"][0]) if item["loc"] else ""
        variable = f"{PREFIX}{name}".upper()
        if name in flags:
            source = f"--{name.replace('_', '-')}"
        elif os.environ.get(variable):
            source = variable
        else:
            table = f"[{places[name]}] of " if places.get(name) else ""
            source = f"{name} in {table}{path}" if name in in_file else name
        deeper = "".join(f".{part}" for part in item["loc"][1:])
        value = "" if name in _SECRET or item["type"] == "missing" else f" is {item['input']!r}"
        field = cls.model_fields.get(name)
        takes = (
            f"; accepted: {field.description}" if field is not None and field.description else ""
        )
        message = item["msg"].removeprefix("Value error, ")
        lines.append(
            f"{source}{deeper}{value}: {message}{'' if 'accepted: ' in message else takes}"
        )
    return "\n".join(lines)
