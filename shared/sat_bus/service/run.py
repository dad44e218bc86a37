"""What every service program does the same way: settings, logging, signals, the run loop,
health."""

from __future__ import annotations

import difflib
import logging
import os
import signal
import sys
import threading
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol, Self

import structlog
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from sat_bus.contract.messages import Health, Name
from sat_bus.service.alive import Alive
from sat_bus.service.loop import SWITCH_INTERVAL_S, WorkLoop
from sat_bus.transport.bus import Bus, Will
from sat_bus.transport.endpoint import ACCEPTED as URL_ACCEPTED
from sat_bus.transport.endpoint import parse_url
from sat_bus.transport.mqtt import MqttBus
from sat_toolkit.errors import ConfigError, SatError

log = logging.getLogger(__name__)

PREFIX = "SAT_"
STOOD_DOWN = 4  # the exit status when another program has taken this one's place: it must not be started again
# Libraries that say what we say ourselves, or what nobody asked for.
_QUIET = {
    "amqtt": logging.ERROR, "transitions": logging.ERROR, "websockets": logging.CRITICAL,
    "asyncio": logging.WARNING, "can": logging.WARNING, "alembic": logging.WARNING,
}  # fmt: skip
_SECRET = ("broker_url",)


class ServiceSettings(BaseSettings):
    """Settings of every service. Flags win over the environment (``SAT_<NAME>``), that over the
    TOML file (``config``), that over the defaults. Use `load`."""

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
        values = read_toml(_config_path(init_settings().get("config")))
        known = {name: value for name, value in values.items() if name in settings_cls.model_fields}
        for name in values.keys() - known.keys():
            for near in difflib.get_close_matches(name, settings_cls.model_fields, 1, 0.85):
                log.warning(
                    "the setting %r of the configuration file is not known; %r is", name, near
                )
        return init_settings, env_settings, InitSettingsSource(settings_cls, known)


def read_toml(path: Path | None) -> dict[str, Any]:
    """The contents of a settings file; empty when there is no `path`.

    Raises:
        ConfigError: it cannot be read or is no TOML.
    """
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(
            f"config {path}: {error.strerror}; a readable TOML file is accepted"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"config {path} is no TOML: {error}") from None


def configure_logging(service: str, settings: ServiceSettings) -> None:
    """Send what our code, plugins and libraries log to stderr, as one stream of lines or of JSON
    objects."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_service(service),
    ]
    finish: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta
    ]
    if settings.log_format == "json":
        finish += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        finish.append(
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=finish)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    logging.captureWarnings(True)
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(max(level, root.level))


def connect(settings: ServiceSettings, client_id: str, will: Will | None = None) -> MqttBus:
    """A bus by `settings`, not yet started.

    Raises:
        ConfigError: as `MqttBus`.
    """
    return MqttBus(settings.broker_url, client_id, will=will, tls_ca=settings.tls_ca)


class Service(Protocol):
    """What `run_service` runs; both methods are called on the loop's thread."""

    def start(self) -> None:
        """Begin; must not block. What it raises ends the program."""

    def stop(self) -> None:
        """End in an orderly way, also after a `start` that failed half-way. It may keep the loop
        turning with `WorkLoop.run_until`."""


def run_service(service: Service, loop: WorkLoop, alive: Alive | None = None) -> int:
    """Run `service` until SIGTERM, SIGINT or `loop.finish`, with its sign of life; return the exit
    status.

    The first signal stops the service and then the loop; a second one ends the process at once. The
    status is 0, 2 for a wrong setting, 1 for another failure, or what `loop.finish` was given.
    """
    stopped = False
    sys.setswitchinterval(SWITCH_INTERVAL_S)

    def stop() -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            if alive is not None:
                alive.stopping()
            service.stop()

    loop.on_finish(stop)
    with _Signals(loop):
        try:
            service.start()
        except SatError as error:
            log.error("%s", error)
            loop.finish(2 if isinstance(error, ConfigError) else 1)
        except Exception:
            log.exception("the service could not start")
            loop.finish(1)
        if alive is not None:
            alive.begin(loop)
        loop.run()
        stop()
        if alive is not None:
            alive.end()
    return loop.status


def health(
    loop: WorkLoop,
    bus: Bus,
    boot: str,
    *,
    queues: Mapping[str, int] | None = None,
    drops: Mapping[str, int] | None = None,
    workers: Mapping[str, int] | None = None,
) -> Health:
    """The health message of a service: what loop and bus tell, and what the service adds."""
    stats = bus.stats()
    return Health(
        boot=boot,
        queues={"loop": loop.depth, "bus_inbox": stats.inbox, **(queues or {})},
        drops={
            "loop_full": loop.dropped,
            "loop_errors": loop.errors,
            **stats.dropped,
            **(drops or {}),
        },
        workers=dict(workers or {}),
        memory_kb=memory_kb(),
        bus={
            "control": stats.control,
            "state": stats.state,
            "frames": stats.frames,
            "frame_bytes": stats.frame_bytes,
            "reconnects": stats.reconnects,
        },
    )


def memory_kb() -> int:
    """Resident memory of this process in KiB; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


class _Signals:
    """SIGTERM and SIGINT while a service runs; only in the main thread, as no other may set
    handlers."""

    def __init__(self, loop: WorkLoop) -> None:
        self._loop = loop
        self._before: dict[int, Any] = {}
        self._seen = False

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._handle)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._seen:
            os._exit(128 + number)
        self._seen = True
        self._loop.finish()


def _add_service(service: str) -> structlog.typing.Processor:
    def add(
        _logger: Any, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        event["service"] = service
        return event

    return add


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
    path = _config_path(flags.get("config"))
    in_file = read_toml(path)
    lines = []
    for item in error.errors(include_url=False, include_context=False):
        name = str(item["loc"][0]) if item["loc"] else ""
        variable = f"{PREFIX}{name}".upper()
        if name in flags:
            source = f"--{name.replace('_', '-')}"
        elif os.environ.get(variable):
            source = variable
        else:
            source = f"{name} in {path}" if name in in_file else name
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
