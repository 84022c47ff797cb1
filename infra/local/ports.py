"""Ports: free ones for tests, and who sits on one that is taken."""

from __future__ import annotations

import socket

import psutil


def free_ports(count: int) -> list[int]:
    """That many different ports of the loopback interface that nobody listens on now."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def is_listening(host: str, port: int, timeout_seconds: float = 1.0) -> bool:
    """Whether something accepts TCP connections there."""
    try:
        with socket.create_connection((host, port), timeout=timeout_seconds):
            return True
    except OSError:
        return False


def listener(port: int) -> str:
    """Who listens on a port, as `name (pid 12)`, as far as this user may see."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return "another process"
    for connection in connections:
        if (
            connection.status == psutil.CONN_LISTEN
            and connection.laddr
            and connection.laddr.port == port
            and connection.pid
        ):
            return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return "another process"
