"""What the orchestrator writes to the bus, and what it asks of hosts."""
