"""The guide's "Example Lifecycle Management"; the guide leaves `logger` undefined."""

# The text below the line is the guide's, byte for byte.
# fmt: off
# ruff: noqa
import logging

logger = logging.getLogger(__name__)
# ------------------------------------------------------------------------------------
from sat_toolkit.core.device_manager import DeviceDriverManager
from sat_toolkit.core.device_spec import DeviceState

def manage_device_lifecycle():
    manager = DeviceDriverManager()
    
    try:
        # Scan for devices
        scan_result = manager.scan_devices("drv_your_device")
        if scan_result["status"] != "success":
            raise RuntimeError("Device scanning failed")
        
        devices = scan_result["devices"]
        if not devices:
            raise RuntimeError("No devices found")
        
        device = devices[0]
        
        # Initialize device
        init_result = manager.initialize_device("drv_your_device", device)
        if init_result["status"] != "success":
            raise RuntimeError("Device initialization failed")
        
        # Connect to device
        connect_result = manager.connect_device("drv_your_device", device)
        if connect_result["status"] != "success":
            raise RuntimeError("Device connection failed")
        
        # Execute commands
        command_result = manager.execute_command(
            "drv_your_device",
            "start",
            device_id=device.device_id
        )
        if command_result["status"] != "success":
            raise RuntimeError("Command execution failed")
        
        # Normal operation...
        
    except Exception as e:
        # Error handling
        logger.error(f"Device operation failed: {e}")
        try:
            # Attempt cleanup
            manager.close_device("drv_your_device", device)
        except Exception as cleanup_error:
            logger.error(f"Cleanup failed: {cleanup_error}")
    finally:
        # Final cleanup
        manager.cleanup_all_devices()
