"""How a device behaves: a pure machine, the shell around it, and who holds all devices and
drivers."""
