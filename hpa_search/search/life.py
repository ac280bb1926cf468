"""The life of a driver: one state, which every part of the driver asks for here.

    STARTING ── run ──▶ RUNNING ── change_slots ──▶ CHANGING_SLOTS ── run ──▶ RUNNING
    STARTING, RUNNING, CHANGING_SLOTS ── pause ──▶ PAUSING
    every state ── end, break_off ──▶ ENDING

Legs may begin while the driver is STARTING or RUNNING. They end with their epoch while it is CHANGING_SLOTS or PAUSING, and
at once when it is ENDING. Only CHANGING_SLOTS returns to an earlier state.

Threads ask for changes. The main thread asks for ``run`` and, in a signal handler, for ``end``. The fleet's thread asks for
``change_slots``, and the listener's for ``pause`` and ``end``. Any thread may ask for ``break_off``.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Literal

Outcome = Literal["finished", "paused", "stopped", "interrupted"]


class State(Enum):
    """Where a driver is in its life."""

    STARTING = "Ray comes up"
    RUNNING = "legs begin"
    CHANGING_SLOTS = "running epochs end, and slots of another kind take over"
    PAUSING = "running epochs end, and so does the driver"
    ENDING = "everything ends now"


@dataclass(frozen=True)
class End:
    """Why everything ends: the outcome, and the trouble, if any, that no trial has caused."""

    outcome: Outcome
    trouble: str | None = None


class Life:
    """The state of one driver; any thread may ask for it and change it."""

    def __init__(self) -> None:
        self._state, self._end = State.STARTING, End("interrupted")
        self._at_end: list[Callable[[], None]] = []
        # A signal handler runs in the middle of the main thread, which may hold the lock then.
        self._lock = threading.RLock()

    @property
    def state(self) -> State:
        """The state now."""
        return self._state

    @property
    def legs_may_begin(self) -> bool:
        """Whether a leg may begin."""
        return self._state in (State.STARTING, State.RUNNING)

    @property
    def is_draining(self) -> bool:
        """Whether legs end with their running epoch."""
        return self._state in (State.CHANGING_SLOTS, State.PAUSING)

    @property
    def is_ending(self) -> bool:
        """Whether everything ends now."""
        return self._state is State.ENDING

    @property
    def trouble(self) -> str | None:
        """What broke the search off; None if nothing did."""
        return self._end.trouble

    @property
    def outcome(self) -> Outcome:
        """How a driver ends whose search has trials left to train."""
        return "paused" if self._state is State.PAUSING else self._end.outcome

    def at_end(self, act: Callable[[], None]) -> None:
        """Call ``act`` when the driver is ENDING, from whichever thread ends it, or at once; it must be quick."""
        self._at_end.append(act)
        if self.is_ending:
            act()

    def run(self) -> None:
        """Let legs begin, unless the driver is PAUSING or ENDING."""
        self._change(State.RUNNING, (State.STARTING, State.CHANGING_SLOTS))

    def change_slots(self) -> None:
        """End the running epochs, so that slots of another kind can take over."""
        self._change(State.CHANGING_SLOTS, (State.RUNNING,))

    def pause(self) -> None:
        """End the driver with its running epochs."""
        self._change(State.PAUSING, (State.STARTING, State.RUNNING, State.CHANGING_SLOTS))

    def end(self, outcome: Outcome = "interrupted") -> None:
        """End everything now, because of a signal or a command."""
        self._finish(End(outcome))

    def break_off(self, trouble: str) -> None:
        """End everything now, because of ``trouble``. The first reason to end counts: later trouble may be its consequence."""
        self._finish(End("interrupted", trouble))

    def _change(self, state: State, earlier: tuple[State, ...]) -> None:
        with self._lock:
            if self._state in earlier:
                self._state = state

    def _finish(self, end: End) -> None:
        with self._lock:
            if self._state is not State.ENDING:
                self._state, self._end = State.ENDING, end
        for act in self._at_end:
            act()
