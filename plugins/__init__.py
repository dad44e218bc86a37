"""Plugins of the SAT Toolkit: device drivers, one folder a hardware family below
`plugins.devices`."""
