"""The seam between the engine and a network, and its implementation in this process."""
