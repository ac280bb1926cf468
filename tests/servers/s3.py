"""A real S3-compatible server, spoken to over HTTP, that can be stopped, started again and made to hang."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import boto3
from moto.server import ThreadedMotoServer

from tests.servers.ports import free_port

HOST = "127.0.0.1"
KEY = "test"


def environment(url: str) -> dict[str, str]:
    """What a user sets to work with the server at ``url``."""
    return {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": KEY, "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": url}


def client(url: str):
    return boto3.client("s3", endpoint_url=url, aws_access_key_id=KEY, aws_secret_access_key=KEY, region_name="us-east-1")


class Server:
    """moto's server in this process: what it holds stays when it is stopped and started again on its port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self._running: ThreadedMotoServer | None = None
        self._buckets = 0

    def start(self) -> None:
        if self._running is None:
            self._running = ThreadedMotoServer(ip_address=HOST, port=self.port, verbose=False)
            self._running.start()

    def stop(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None

    def bucket(self) -> str:
        """Make a bucket and return its name."""
        self._buckets += 1
        client(self.url).create_bucket(Bucket=f"bucket{self._buckets}")
        return f"bucket{self._buckets}"

    @contextmanager
    def away_for(self, seconds: float):
        """Stop the server; it comes back by itself after so many seconds."""
        self.stop()
        timer = threading.Timer(seconds, self.start)
        timer.start()
        try:
            yield
        finally:
            timer.join()


class Process:
    """moto's server in a process of its own, which can be made to hang: connections are then taken and never answered."""

    def __init__(self, host: str = HOST) -> None:
        self.port = free_port(host)
        self.url = f"http://{host}:{self.port}"
        command = [sys.executable, "-m", "moto.server", "-H", host, "-p", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as attempt:
                if attempt.connect_ex((host, self.port)) == 0:
                    return
            time.sleep(0.1)
        raise RuntimeError("moto's server did not start")

    def hang(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


class Canned:
    """A server that gives one and the same answer to everything."""

    def __init__(self, status: str, code: str = "", times: int = 10**6) -> None:
        body = (
            f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>said by {code}</Message></Error>".encode() if code else b""
        )
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self._answer, self.asked = head.encode() + body, 0
        self._socket = socket.socket()
        self._socket.bind((HOST, 0))
        self._socket.listen(50)
        self.url = f"http://{HOST}:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.asked += 1
            with connection:
                try:
                    connection.recv(65536)
                    connection.sendall(self._answer)
                except OSError:
                    pass

    def end(self) -> None:
        self._socket.close()
