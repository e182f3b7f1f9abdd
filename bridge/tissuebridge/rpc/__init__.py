"""What client and server say to each other: the contract's code in `v1`, and what it means beside it."""
