"""The brokers that `sat` starts: one inside the process, or Mosquitto. The driver host and orchestrator need neither."""
