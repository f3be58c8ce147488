"""SIGTERM and Ctrl-C: a command stops at once, says what goes on from there, and exits not 0."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}
AGAIN = 2.0  # seconds until the signal is raised once more
GRACE = 6.0  # seconds until the process ends in any case
PATIENCE = 3.0  # seconds in which another process may turn out to have failed first
# what gloo and NCCL say of it
GONE = ("Connection closed by peer", "Connection reset by peer", "remote process exited")


class Stopped(BaseException):
    """A signal that ends the command, raised in the main thread wherever that is."""


class Stopping:
    """A command that stops at once on SIGTERM and Ctrl-C: exit code 143 or 130 and one sentence.

    A second signal, a second later or more, ends the process without any tidying up. So does a
    main thread that does not come back within six seconds, from waiting for another process say.

    Args:
        command: as it was given; what is said on stderr names it.
    """

    current: "Stopping | None" = None  # the command that this process runs

    def __init__(self, command: str):
        self.command = command
        # what is said after `stopped by ...; `; whoever knows what is kept sets it
        self.sentence: Callable[[], str] = lambda: f"to start again: {command}"
        self.received: int | None = None
        # the processes that the Trainer has started for a distributed run, and whether it is one;
        # set by the Trainer
        self.started: Callable[[], list[Any]] = list
        self.distributed = False
        self._others: list[subprocess.Popen[Any]] = []
        self._passed_on = False
        self._taking = threading.Lock()
        self._since, self._again = 0.0, False
        self._waited = False
        self._before: dict[signal.Signals, Any] = {}
        self._told, self._ending = threading.Lock(), threading.Lock()

    def __enter__(self) -> "Stopping":
        if threading.current_thread() is not threading.main_thread() or os.name == "nt":
            return self
        Stopping.current = self
        # a signal that was ignored from the start (nohup, a job in the background) stays so
        wanted = [number for number in NAMES if signal.getsignal(number) != signal.SIG_IGN]
        self._before = {
            number: signal.signal(number, self._raise) or signal.SIG_DFL for number in wanted
        }
        reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._wakeup = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reading,), daemon=True, name="signals").start()
        if os.environ.get("LOCAL_RANK", "0") != "0":
            threading.Thread(target=_end_with_parent, daemon=True, name="parent").start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._before:
            return
        if self.distributed and self.received is None and isinstance(error, Exception | SystemExit):
            self._end_others(error)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        Stopping.current = None
        os.close(self._writing)
        if self.received is not None and error is not None:
            self._pass_on(self.received)
            self._tell(self.received)
            if self.distributed:  # Python's own end waits for threads that wait for each other
                sys.stdout.flush()
                os._exit(128 + self.received)
            # whatever the signal became on its way, as an error of the other processes' end
            raise SystemExit(128 + self.received) from None

    def watch_children(self) -> None:
        """From here on the command ends when another of its processes has failed, which said why."""
        if Stopping.current is self and is_first():
            threading.Thread(target=self._end_with_child, daemon=True, name="children").start()

    def _end_with_child(self) -> None:
        while Stopping.current is self and self.received is None:
            self._end_if_failed()
            time.sleep(0.2)

    def _end_if_failed(self) -> None:
        """Ends all processes with the exit code of one that has failed, where one has."""
        processes = self._take_others()
        code = next((process.poll() for process in processes if process.poll()), None)
        if code is not None and self.received is None:
            self._ending.acquire()  # once, of the threads that may see it; all end here
            if code < 0:  # all others have said why
                _say_lost(f"was ended by {signal.Signals(-code).name}")
            self._kill(processes)
            os._exit(code if code > 0 else 128 - code)

    def wait_for_others(self, error: BaseException) -> None:
        """Ends this process where an error that nobody expected is the failure of another one.

        That says why, or has been killed: this one then says nothing, or that it was lost. Where
        nobody's processes are this one's children, as under torchrun and srun, whoever started them
        all ends this one.
        """
        if not self.distributed or self._waited or self.received is not None:
            return
        self._waited = True
        end = time.monotonic() + PATIENCE
        try:
            while time.monotonic() < end:
                self._end_if_failed()
                time.sleep(0.1)
        except Stopped:
            if self.received != signal.SIGTERM:
                raise
            os._exit(1)
        if _is_lost(error):
            _say_lost("was lost")
            self._kill(self._take_others())
            os._exit(1)

    def _end_others(self, error: BaseException) -> None:
        """Ends the other processes where this one has failed; they would wait for it."""
        told = isinstance(error, SystemExit)
        if told and not error.code:  # type: ignore[attr-defined]
            return
        self._kill(self._take_others())
        if told:  # Python's own end waits for threads that wait for the others
            code = error.code  # type: ignore[attr-defined]
            os._exit(code if isinstance(code, int) else 1)

    def _take_others(self) -> list[Any]:
        """The other processes, which Lightning no longer watches from here on.

        It would kill this one, with nothing said, when it finds one of them gone. Those of other
        strategies, which are no commands, stay with it.
        """
        with self._taking:
            started = self.started()
            while started and isinstance(started[-1], subprocess.Popen):
                self._others.append(started.pop())
            return list(self._others)

    def _kill(self, processes: list[Any]) -> None:
        for process in processes:
            with suppress(OSError):
                process.kill()
        sys.stdout.flush()
        sys.stderr.flush()

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received, self._since = number, time.monotonic()
        elif self._again:
            self._again = False
        elif time.monotonic() - self._since > 1:
            os._exit(128 + number)
        else:  # the same signal once more, from whoever started this process and from the terminal
            return
        raise Stopped

    def _watch(self, reading: int) -> None:
        """Waits for a signal beside the main thread, which sees none while it waits for others."""
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            number = 0
            while number not in self._before:
                arrived = pipe.read(1)
                if not arrived:
                    return
                number = arrived[0]
            self._pass_on(number)
            time.sleep(AGAIN)
            if Stopping.current is self:  # what was raised got lost, in a destructor for instance
                self._again = True
                os.kill(os.getpid(), number)
            time.sleep(GRACE - AGAIN)
            if Stopping.current is self:
                self._tell(number)
                os._exit(128 + number)

    def _pass_on(self, number: int) -> None:
        """Sends the signal to the other processes, once."""
        if self._passed_on:
            return
        self._passed_on = True
        for process in self._take_others():
            with suppress(OSError):
                process.send_signal(number)

    def _tell(self, number: int) -> None:
        if not is_first() or not self._told.acquire(blocking=False):
            return
        print(
            f"stopped by {NAMES[signal.Signals(number)]}; {self.sentence()}",
            file=sys.stderr,
            flush=True,
        )


def is_first() -> bool:
    """Whether this process of a distributed run is the one that speaks, whoever started it."""
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK")
    return all(os.environ.get(name, "0") in ("", "0") for name in names)


def _is_lost(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, is that another process is gone."""
    while error is not None:
        if isinstance(error, RuntimeError) and any(words in str(error) for words in GONE):
            return True
        error = error.__cause__ or error.__context__
    return False


def _say_lost(how: str) -> None:
    print(
        f"error: another process of this run {how}; where it has said nothing, see whether it ran "
        "out of memory, and give the same command again to go on",
        file=sys.stderr,
        flush=True,
    )


def _end_with_parent() -> None:
    """Ends this process, one of a distributed run, when the one that started it is gone."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
