"""The server: an image's pixels come in over gRPC from a client, regions and cells go back.

`serve` opens the port and closes it, `guard` stands before every call, `analysis` and `models` are the services,
`remote_pixels` is an image that lies with the client, `outbox` holds what waits to be sent.
"""
