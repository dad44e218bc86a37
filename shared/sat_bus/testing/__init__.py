"""A bus without a broker, for tests: ours, and those of who builds on this. No service imports it."""
