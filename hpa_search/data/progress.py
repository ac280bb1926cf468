"""A progress bar for work on images."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress


@contextmanager
def progress(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that takes the images done and the total.

    Without a terminal, it prints one line at the start only.
    """
    if not console.is_terminal:
        console.print(f"{what} ...", highlight=False)
        yield lambda done, of: None
        return
    with Progress(console=console, transient=True) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, of: bars.update(task, completed=done, total=of)
