"""The command in a terminal of its own, which can be typed into and closed."""

import os
import pty
import select
import signal
import time
from pathlib import Path

import psutil

from tests.end_to_end.conftest import ray_processes


class Terminal:
    """Runs ``command`` in a new pseudo-terminal, as a shell in a window does."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: Path) -> None:
        self.text, self._before, self._code = "", set(ray_processes()), None
        self.pid, self._file = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup, a shell in a window does not
            os.chdir(folder)
            os.execve(command[0], command, environment)
        self.began = time.monotonic()

    def wait(self, seconds: float) -> bool:
        """Read what is printed for so many seconds, or until the command's end; return whether it has ended."""
        deadline = time.monotonic() + seconds
        while not self._ended() and (left := deadline - time.monotonic()) > 0:
            self._read(min(left, 0.1))
        return self._code is not None

    def wait_for(self, text: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.text and time.monotonic() < deadline and not self.wait(0.1):
            pass
        assert text in self.text, self.text

    def ctrl_c(self) -> None:
        os.write(self._file, b"\x03")

    def close(self) -> None:
        """Close the window: the kernel sends SIGHUP to all that runs in it."""
        os.close(self._file)
        self._file = -1

    @property
    def code(self) -> int:
        """The exit code; negative for a signal's number."""
        assert self._code is not None
        return self._code

    def left_behind(self, patience: float = 2) -> list[str]:
        """Return the titles of Ray's processes that were not there before and do not go away."""
        left = [process for process in ray_processes() if process not in self._before]
        alive = psutil.wait_procs(left, timeout=patience)[1]
        return [str(process) for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]

    def end(self) -> None:
        if not self._ended():
            for process in psutil.Process(self.pid).children(recursive=True):
                process.kill()
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        if self._file >= 0:
            os.close(self._file)

    def _ended(self) -> bool:
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code is not None

    def _read(self, seconds: float) -> None:
        if self._file < 0:
            time.sleep(seconds)
        elif select.select([self._file], [], [], seconds)[0]:
            try:
                self.text += os.read(self._file, 65536).decode(errors="replace")
            except OSError:  # the command has closed its end
                time.sleep(seconds)
