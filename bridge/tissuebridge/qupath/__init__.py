"""What runs inside QuPath, and what looks after it."""
