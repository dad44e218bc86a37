"""How services talk: the bus contract as code, and the adapters that carry it."""
