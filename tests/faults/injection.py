"""Faults inside a command. `install` runs in the child process that was forked for it, before the command.

A plan is a dictionary (it travels as JSON):

    root     folder below which changes of files are moments
    log      file that gets a line for each moment, and at last the processor time
    saved    file that gets a line for each save that the program believes to be complete
    faults   list of {"at": moment, "do": ..., ...}; a moment is a number, counted from 0. With "of" in it, only moments
             that match this expression count, such as "poll fit" (a step of training) or "write .*/train.log"
    seconds  processor time after which the process is killed, wherever it is
    closed   descriptors that are closed before the command starts
    ignored  numbers of signals that are ignored from the start

What a fault does: `kill` the process that reaches the moment (`kill-child`: unless it is the one that was started),
`kill-main` the one that was started, or `kill-all`;
`signal-main` the one that was started (with "number"; and with "heard", wait until it has passed the signal on),
`tear` (write the half, then kill), `power` (kill, and lose what was not flushed), `signal` (with "number"), `fail`
(every later change of a file raises "error"), `orphan` (kill the child processes), `limit` (with "resource" and
"value"; an address space is counted from its present size), `link` (put a link "to" elsewhere at the path).
"""

from __future__ import annotations

import errno
import os
import random
import re
import resource
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from faults.moments import Counter, watch, watch_saves
from faults.power import Disk
from helpers.processes import HANG_SECONDS, children
from trainer.signals import NUMBERS

FAILING = {
    errno.ENOSPC: ("open", "write", "torn", "fsync", "replace", "mkdir", "symlink", "pwrite"),
    errno.EROFS: (
        "open",
        "write",
        "torn",
        "replace",
        "mkdir",
        "symlink",
        "unlink",
        "pwrite",
        "ftruncate",
        "truncate",
        "link",
    ),
}
HIDDEN_PID = re.compile(r"\.\d+(\.tmp)?$")


def _signal_and_wait(pid: int, number: int) -> None:
    """Send a signal to another process, and return once this one has received the signal that follows from it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
    os.kill(pid, number)
    heard = signal.sigtimedwait(NUMBERS, HANG_SECONDS)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert heard is not None
    signal.raise_signal(heard.si_signo)


def plan(do: str, at: int, of: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a plan with one fault, for a command in the current folder."""
    fault = {"at": at, "do": do, **({} if of is None else {"of": of}), **more}
    return {"root": os.getcwd(), "faults": [fault]}


class Injection:
    """The faults of a plan, done at their moments."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self.faults = [(fault, Counter()) for fault in plan.get("faults", ())]
        self.log = self._append(plan.get("log"))
        self.saved = self._append(plan.get("saved"))
        self.count, self.broken = Counter(), 0
        self.torn = self.busy = False
        self.root = Path(plan["root"])
        needs_disk = any(fault["do"] == "power" for fault, _ in self.faults)
        watch(self.root, self.moment, self.tears)
        self.disk = Disk(self.root) if needs_disk else None  # after `watch`: it is asked first
        watch_saves(lambda folder, step: self._note(self.saved, f"{folder} {step}"))
        self.main = os.getpid()
        for descriptor in plan.get("closed", ()):
            os.close(descriptor)
        for number in plan.get("ignored", ()):
            signal.signal(number, signal.SIG_IGN)
        if "seconds" in plan:
            signal.setitimer(signal.ITIMER_PROF, plan["seconds"])  # SIGPROF kills as surely as SIGKILL

    @staticmethod
    def _append(path: str | None) -> int | None:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if path else None

    @staticmethod
    def _note(file: int | None, text: str) -> None:
        if file is not None:
            _write(file, (text + "\n").encode())

    def tears(self) -> bool:
        """Return whether the write that begins shall be cut in half."""
        return self.torn or self.broken == errno.ENOSPC

    def moment(self, what: str, path: str) -> None:
        """Count a moment, and do what is due."""
        if self.busy:  # a fault that itself changes files
            return
        if what == "torn":
            return self._after_half()
        if self.disk is not None and what in ("write", "open"):
            self.disk.writes(path)
        number = self.count.next()
        text = f"{what} {HIDDEN_PID.sub('', path)}"
        self._note(self.log, f"{text} {time.process_time():.4f}")
        for fault, counter in self.faults:
            if "of" not in fault:
                due = fault["at"] == number
            else:
                due = bool(re.search(fault["of"], text)) and fault["at"] == counter.next()
            if due:
                self.busy = True
                self._do(fault, what, path)
                self.busy = False
        if self.broken and what in FAILING[self.broken] and not self._still_works(what, path):
            raise OSError(self.broken, os.strerror(self.broken), path)

    def _still_works(self, what: str, path: str) -> bool:
        """Return whether a full disk lets this happen: the half of a write, and opening a file that exists."""
        if self.broken != errno.ENOSPC:
            return False
        return what == "write" or (what == "open" and (self.root / path).exists())

    def _after_half(self) -> None:
        if self.torn:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(self.broken, os.strerror(self.broken))

    def _do(self, fault: Mapping[str, Any], what: str, path: str) -> None:
        match fault["do"]:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "kill-child":
                if os.getpid() != self.main:
                    os.kill(os.getpid(), signal.SIGKILL)
            case "kill-main":
                os.kill(self.main, signal.SIGKILL)
            case "kill-all":
                self._kill_all()
            case "tear":
                self.torn = True
                if what != "write":
                    os.kill(os.getpid(), signal.SIGKILL)
            case "power":
                assert self.disk is not None
                for pid in descendants(self.main):
                    if pid != os.getpid():
                        os.kill(pid, signal.SIGSTOP)
                self.disk.lose(random.Random(fault["at"]))
                self._kill_all()
            case "signal":
                os.kill(os.getpid(), fault["number"])
            case "signal-main" if fault.get("heard"):
                _signal_and_wait(self.main, fault["number"])
            case "signal-main":
                os.kill(self.main, fault["number"])
            case "fail":
                self.broken = fault["error"]
            case "orphan":
                for pid in children(os.getpid()):
                    os.kill(pid, signal.SIGKILL)
            case "link":
                os.symlink(fault["to"], self.root / path)
            case "limit":
                value = fault["value"] + (_address_space() if fault["resource"] == "RLIMIT_AS" else 0)
                resource.setrlimit(getattr(resource, fault["resource"]), (value, value))

    def _kill_all(self) -> None:
        """Kill this process and all others of the command, itself last."""
        for pid in (self.main, *descendants(self.main)):
            if pid != os.getpid():
                os.kill(pid, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


_write = os.write


def descendants(pid: int) -> list[int]:
    """Return the running processes below a process, the youngest first."""
    below = children(pid)
    return [*(pid for child in below for pid in descendants(child)), *below]


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def install(plan: Mapping[str, Any]) -> None:
    """Do the faults of a plan in this process and the processes that it forks."""
    Injection(plan)
