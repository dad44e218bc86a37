"""The orchestrator: owns what is desired, and brings devices there.

`fleet` decides, `steering` carries out, `requests` answers clients, `store` keeps.
"""
