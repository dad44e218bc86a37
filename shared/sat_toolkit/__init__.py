"""SAT Toolkit's plugin SDK: what a `drv_*.py` imports. It knows no MQTT and no service."""

__version__ = "0.1.0"
