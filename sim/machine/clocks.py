"""What is certain to come before what, whichever unit is faster: vector clocks of the coroutines.

A slot has as many tokens as it is used in turn, but a token does not say for which slot it is. So
a loader may have a token and yet come to a slot that its reader is still at work on: in one order
of events, which no single run needs to show.
"""

from collections.abc import Iterable

__all__ = ["Clocks", "Stamp"]

#: How many events of each coroutine have come before.
Stamp = tuple[int, ...]


class Clocks:
    """One clock for each coroutine.

    Parameters
    ----------
    names
        Of the coroutines.

    Attributes
    ----------
    now
        The one that is moving.
    start
        Stamp before all others.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._place = {name: place for place, name in enumerate(names)}
        self.start: Stamp = (0,) * len(self._place)
        self._times: dict[str, Stamp] = dict.fromkeys(self._place, self.start)
        self.now = next(iter(self._place))

    def stamp(self) -> Stamp:
        """An event of the coroutine that is moving, for others to come after."""
        times, place = self._times[self.now], self._place[self.now]
        times = (*times[:place], times[place] + 1, *times[place + 1 :])
        self._times[self.now] = times
        return times

    def follow(self, stamp: Stamp) -> None:
        """The coroutine that is moving has waited for an event."""
        self._join(self.now, stamp)

    def follow_all(self, names: Iterable[str]) -> None:
        """It has waited for the ends of coroutines."""
        for name in names:
            self.follow(self._times[name])

    def fork(self, names: Iterable[str]) -> None:
        """It begins coroutines."""
        stamp = self.stamp()
        for name in names:
            self._join(name, stamp)

    def follows(self, stamp: Stamp) -> bool:
        """Whether the coroutine that is moving is certain to come after an event."""
        return all(map(int.__le__, stamp, self._times[self.now]))

    def _join(self, name: str, stamp: Stamp) -> None:
        self._times[name] = tuple(map(max, self._times[name], stamp))
