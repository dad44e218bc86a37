"""How messages travel: the `Bus` protocol, and its adapters for MQTT and in memory."""
