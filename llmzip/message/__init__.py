"""Short messages, without a container."""
