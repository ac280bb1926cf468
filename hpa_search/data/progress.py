"""A progress bar for work that counts images; a line where the output is no terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress


@contextmanager
def progress(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that is called with the images done and the number of all."""
    if not console.is_terminal:
        console.print(f"{what} ...", highlight=False)
        yield lambda done, of: None
        return
    with Progress(console=console, transient=True) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, of: bars.update(task, completed=done, total=of)
