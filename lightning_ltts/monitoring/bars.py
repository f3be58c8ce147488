"""A progress bar that moves every second in a terminal, and says a line now and then in a file."""

import sys
import time
import weakref
from threading import Event, Thread
from typing import Any

from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

SECONDS = 1.0  # between two drawings in a terminal, however long a step takes
FILE_SECONDS = 30.0  # between two lines in a file
_LINE = "{desc}: {n_fmt} of {total_fmt}{unit} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"


class Bar(Tqdm):
    """Lightning's bar, which does not wait for the next step to be drawn again.

    Where stderr is no terminal, a carriage return would make one endless line of a log file: there
    it writes a line of its own every half a minute, and one at the end.

    Args:
        kwargs: as tqdm's; it goes to stderr.
    """

    disable: bool  # tqdm's: nothing is shown, or it is closed

    def __init__(self, **kwargs: Any):
        self._in_terminal = sys.stderr.isatty()
        self._said, self._closed = time.monotonic(), Event()
        if not self._in_terminal:
            kwargs |= {"bar_format": _LINE, "dynamic_ncols": False, "position": 0}
        super().__init__(file=sys.stderr, **kwargs)
        if not self.disable:
            # it must not keep the bar alive
            Thread(target=_keep_moving, args=(weakref.ref(self), self._closed), daemon=True).start()

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Draws the bar; in a file, writes a line where it is time for one."""
        if self._in_terminal:
            drawn: bool = super().display(msg, pos)
            return drawn
        if time.monotonic() - self._said >= FILE_SECONDS:
            self._say()
        return True

    def close(self) -> None:
        """Leaves the bar as it is at the end, where it was made to."""
        self._closed.set()
        was_open = not self.disable
        if self._in_terminal or not was_open:
            super().close()
            return
        self.disable = True
        self._decr_instances(self)
        if self.leave:
            self._say()

    def _say(self) -> None:
        self._said = time.monotonic()
        self.fp.write(f"{self}\n".replace(": :", ":"))
        self.fp.flush()


def _keep_moving(reference: "weakref.ref[Bar]", closed: Event) -> None:
    """Draws a bar every second until it is closed, or nobody has it any more."""
    while not closed.wait(SECONDS):
        bar = reference()
        if bar is None:
            return
        try:
            bar.refresh()
        except ValueError:  # what it goes to has been closed
            return
        del bar
