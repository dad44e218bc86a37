"""What outlives a restart: what clients desire, the epoch, the record of requests."""
