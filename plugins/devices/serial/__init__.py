"""The serial family: the driver `drv_serial` on pyserial, and a simulated console for demo and
tests."""
