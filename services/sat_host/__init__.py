"""The driver host: one process a hardware family, one worker process a device. It never imports
plugin code."""
