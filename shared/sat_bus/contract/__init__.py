"""What the bus carries: topics, payloads, JSON, bin batches, boots. PURE: no I/O, threads, clock or
logging."""
