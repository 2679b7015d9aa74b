"""What client and executor say to each other: docs/remote-protocol.md. The standard library only, since the client's
half runs in images that hold nothing of ours."""
