"""An agenda that is played by hand, without Ray."""

from hpa_search.ledger.ledger import Ledger
from hpa_search.search.agenda import Agenda
from hpa_search.search.leg import EpochReport


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


def open_agenda(search, out, slots=2, clock=None):
    return Agenda(search, Ledger.create(out, "toy"), slots=slots, spent_seconds=clock or Clock())


def score(leg, epoch):
    return leg.parameters["learning_rate"] * epoch**0.5


def advance(agenda, legs, leg):
    """Report the leg's next epoch; take it off ``legs`` when it is over."""
    epoch = agenda.trials[leg.number].epochs + 1
    if agenda.report(leg.number, EpochReport(epoch, score(leg, epoch), {})):
        legs.remove(leg)


def play(agenda, chooser, most_steps=10_000):
    """Run slots in a random order until the agenda is finished; return the epochs done."""
    legs, steps = [], 0
    while not agenda.has_nothing_left and steps < most_steps:
        while (leg := agenda.next()) is not None:
            legs.append(leg)
        if not legs:
            break
        advance(agenda, legs, chooser.choice(legs))
        steps += 1
    return steps
