"""Hosts and devices as the bus shows them, and what follows from that. PURE: events in, effects
out."""
