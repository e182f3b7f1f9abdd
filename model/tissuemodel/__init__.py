"""The multitask network: arrays in, arrays out. Knows no QuPath, no gRPC and no files but its checkpoints."""
