"""The orchestrator: desired state, the lifecycle table, discovery, auto-initialization, lost
hosts."""
