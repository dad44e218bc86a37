"""The brokers that `sat` starts: one inside the process, or Mosquitto. Hosts and orchestrator need
neither."""
