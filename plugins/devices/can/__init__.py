"""The CAN family: the driver `drv_socketcan` on python-can, and a simulated ECU for demo and
tests."""
