"""The other end of the wire: serves one driver, and gathers its frames into batches.

Imports no contract and nothing that checks it: there is a worker for each device, and each starts
anew.
"""
