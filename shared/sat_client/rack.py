"""The way in for a test rack: a site, and its devices by name.

with Rack("mqtt://bench:1883") as rack:
    ecu = rack.device("ecu")
    ecu.connect()
    print(ecu.do("status"))
"""

from __future__ import annotations

from typing import Any

from sat_bus.contract import messages as m
from sat_client.connection import RackConnection
from sat_client.device import Device
from sat_client.view import HostView


class Rack(RackConnection):
    """A site on a broker. Use it in a ``with`` statement, or `open` and `close` it.

    Args:
        url: the broker; default SAT_BROKER_URL, else ``mqtt://127.0.0.1:1883``.
        site: default SAT_SITE, else ``lab``.
        client: the name that requests are made under; default the URL's user name, else one of its
            own.
        tls_ca: a PEM file of certificates to trust; default SAT_TLS_CA, else the system's.
        bus: a bus to use instead of connecting to `url`; it is started and closed with the rack.

    Attributes:
        endpoint: the broker's address; as text it holds no password.
        orchestrator_grace: seconds that an orchestrator which is just starting is waited for.

    Raises:
        ConfigError: a wrong URL.
    """

    def devices(self, *, host: str | None = None, driver: str | None = None) -> list[Device]:
        """The devices of the site, in order of their names."""
        with self.reading() as view:
            keys = sorted(view.devices)
        return [
            Device(self, key)
            for key in keys
            if host in (None, key.host) and driver in (None, key.driver)
        ]

    def device(self, name: str, *, host: str | None = None, driver: str | None = None) -> Device:
        """The device that `name` means: ``ecu``, ``drv_socketcan/ecu`` or
        ``bench-can/drv_socketcan/ecu``.

        Raises:
            UnknownDevice, BadArgs: no device has this name, or several have; the message lists
                them.
        """
        with self.reading() as view:
            return Device(self, view.find(name, host=host, driver=driver))

    def hosts(self) -> dict[str, HostView]:
        """The driver hosts of the site by name, as they are now."""
        with self.reading() as view:
            return {name: HostView(name, h.said, h.birth) for name, h in sorted(view.hosts.items())}

    @property
    def orchestrator(self) -> m.OrchestratorState | None:
        """What the orchestrator said of itself last; None when there never was one."""
        with self.reading() as view:
            return view.orchestrator

    def scan(
        self, *, host: str | None = None, driver: str | None = None, timeout: float = 30.0
    ) -> dict[str, Any]:
        """Have the drivers look for devices; the result says what was found and which drivers
        failed.

        Raises:
            SatError: it was refused, or no answer came.
        """
        args = {
            name: value for name, value in (("host", host), ("driver", driver)) if value is not None
        }
        result = self.orchestrate("scan", args, timeout=timeout).result
        return result if isinstance(result, dict) else {}
