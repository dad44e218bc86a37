"""The guide's "Example Usage"."""

# The text below the line is the guide's, byte for byte.
# fmt: off
# ruff: noqa
# ------------------------------------------------------------------------------------
from sat_toolkit.core.device_manager import DeviceDriverManager

# Get device manager instance
manager = DeviceDriverManager()

# Scan for devices
result = manager.scan_devices("drv_your_device")

if result["status"] == "success":
    devices = result["devices"]
    
    # Initialize first device
    if devices:
        device = devices[0]
        init_result = manager.initialize_device("drv_your_device", device)
        
        if init_result["status"] == "success":
            # Connect to device
            connect_result = manager.connect_device("drv_your_device", device)
            
            if connect_result["status"] == "success":
                # Execute command
                command_result = manager.execute_command(
                    "drv_your_device",
                    "start",
                    device_id=device.device_id
                )
