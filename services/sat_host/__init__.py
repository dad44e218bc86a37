"""The driver host: one process a hardware family, one worker process a device.

It never imports plugin code. `bus` is what it says and hears, `devices` how a device behaves,
`pool` its workers as it sees them, `worker` the other end of the wire, `containment` what holds
workers within their limits.
"""
