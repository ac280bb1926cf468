"""Ports that nobody listens at."""

import socket


def free_port(host: str = "127.0.0.1") -> int:
    """Return one."""
    with socket.socket() as found:
        found.bind((host, 0))
        return found.getsockname()[1]
