"""Where the time goes: some dozens of steps under torch's profiler, divided among what the loop does."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from trainer.config.keys import WARM_UP
from trainer.device import silence_profiler
from trainer.files import write_atomically

STARTING = 2  # of them, under a profiler that runs but keeps nothing, for its own start takes time
MODEL = ("forward", "backward", "optimizer")
OTHERS = ("data", "metrics", "validation", "saving", "rest")
COSTLIEST = 10
PREFIX = "phase: "


class Profile:
    """Profiles a run while entered, from step WARM_UP + 1 to `max_steps`, and leaves trace.json.

    The time of the thread that trains is divided into phases without gaps, each marked in the trace. Where a phase
    begins is seen from outside: methods of the parts of this one run are wrapped, so that other runs pay nothing.
    """

    def __init__(self, max_steps: int, device: torch.device, folder: Path) -> None:
        self.folder, self.on_cuda = folder, device.type == "cuda"
        self.steps = 0
        self.mark: record_function | None = None
        self.summary: dict[str, Any] | None = None
        if not self.on_cuda:
            silence_profiler()
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.on_cuda else [])]
        plan = schedule(wait=WARM_UP - STARTING, warmup=STARTING, active=max_steps - WARM_UP, repeat=1)
        self.profiler = profile(activities=activities, schedule=plan, on_trace_ready=self._read)

    def attach(self, population: Any, train: Any, saver: Any, report: Any) -> None:
        """Marks where the phases begin: `loop.Fit` takes the same four objects."""
        train.epoch = self._fetching(train.epoch)
        self._wrap(population, "forward", "forward")
        self._wrap(population, "scaled", then="backward")
        self._wrap(population.sums, "add", "metrics", then="optimizer")
        self._wrap(population, "eval", "validation")
        self._wrap(population, "train", then="rest")
        self._wrap(saver, "save", "saving", then="rest")
        self._wrap(report, "advance", "rest", after=self._step)

    def _wrap(
        self,
        owner: Any,
        name: str,
        phase: str | None = None,
        *,
        then: str | None = None,
        after: Callable[[], None] | None = None,
    ) -> None:
        """Begins `phase` with each call of a method of one object; after it comes `then`, or what `after` does."""
        method = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if phase is not None:
                self._begin(phase)
            result = method(*args, **kwargs)
            if after is not None:
                after()
            if then is not None:
                self._begin(then)
            return result

        setattr(owner, name, wrapped)

    def _fetching(self, epoch: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def fetching(*args: Any) -> Iterator[Any]:
            self._begin("data")
            for batch in epoch(*args):
                self._begin("rest")
                yield batch
                self._begin("data")
            self._begin("rest")

        return fetching

    def _begin(self, phase: str) -> None:
        self._end()
        self.mark = record_function(PREFIX + phase)
        self.mark.__enter__()

    def _end(self) -> None:
        if self.mark is not None:
            self.mark.__exit__(None, None, None)
            self.mark = None

    def _step(self) -> None:
        self._end()  # a phase that is open where the recording begins or ends would be lost
        self.steps += 1
        self.profiler.step()
        self._begin("rest")

    def __enter__(self) -> Profile:
        self.profiler.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()
        self.profiler.stop()

    def _read(self, profiler: profile) -> None:
        """The recording is over, at the last step or because the run is."""
        profiler.export_chrome_trace(str(self.folder / "trace.json"))
        events = profiler.events()
        host, device = phases(events)
        wall = sum(host.values())
        if not wall:
            return
        shares = {name: time / wall for name, time in host.items()}
        device_shares = {name: time / wall for name, time in device.items()} if any(device.values()) else None
        if device_shares is not None:
            device_shares["idle"] = 1 - sum(device_shares.values())
        judged = device_shares or shares
        steps = self.steps - WARM_UP
        self.summary = {
            "steps": steps,
            "seconds_per_step": wall / steps / 1e6,
            "shares": shares,
            "device_shares": device_shares,
            "not_model_share": 1 - sum(judged[name] for name in MODEL),
            "operators_by": "self device time" if device_shares else "self CPU time",
            "operators": costliest(profiler, wall, on_device=device_shares is not None),
        }

    def report(self, samples: int) -> list[str]:
        """The lines of profile.txt, which is written here as profile.json is; `samples` is those of a step."""
        if self.summary is None:
            return [f"profile    nothing: training ended after {self.steps} steps, and the first {WARM_UP} warm up"]
        text = json.dumps(self.summary, indent=2) + "\n"
        write_atomically(self.folder / "profile.json", text.encode())
        lines = describe(self.summary, samples)
        write_atomically(self.folder / "profile.txt", ("\n".join(lines) + "\n").encode())
        return lines


def phases(events: Iterable[Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Microseconds of each phase: of the thread that trains, and of what the device did for what began in it.

    A kernel belongs to the phase in which the operator that launched it began, on whichever thread: the one that
    differentiates is another.
    """
    events = list(events)
    host, device = (dict.fromkeys((*MODEL, *OTHERS), 0.0) for _ in range(2))
    begins, names = [], []
    for event in events:
        if event.device_type == DeviceType.CPU and event.name.startswith(PREFIX):
            name = event.name.removeprefix(PREFIX)
            host[name] += event.time_range.elapsed_us()
            begins.append(event.time_range.start)
            names.append(name)
    for event in events:
        if event.device_type == DeviceType.CPU and event.kernels and not event.is_user_annotation:
            at = bisect_right(begins, event.time_range.start)  # events come in the order of their beginnings
            if at:
                device[names[at - 1]] += sum(kernel.duration for kernel in event.kernels)
    return host, device


def costliest(profiler: profile, wall: float, *, on_device: bool) -> list[dict[str, Any]]:
    """The operators with the longest time of their own, without that of the operators they call."""

    def time(entry: Any) -> float:
        return entry.self_device_time_total if on_device else entry.self_cpu_time_total

    entries = [
        entry
        for entry in profiler.key_averages()
        if entry.device_type == DeviceType.CPU and not entry.key.startswith((PREFIX, "ProfilerStep"))
    ]
    return [
        {"name": entry.key, "calls": entry.count, "seconds": time(entry) / 1e6, "share": time(entry) / wall}
        for entry in sorted(entries, key=time, reverse=True)[:COSTLIEST]
    ]


def describe(summary: dict[str, Any], samples: int) -> list[str]:
    """The summary in words and two tables."""
    steps, step_ms = summary["steps"], summary["seconds_per_step"] * 1e3
    lines = [
        f"profile    {steps} steps of {samples} samples, {step_ms:.3g} ms each with the profiler on; "
        f"{summary['not_model_share']:.0%} of the time is not the model's",
        "",
    ]
    device = summary["device_shares"]
    lines.append(f"{'phase':<40} {'ms a step':>10} {'share':>8}" + (f" {'device':>8}" if device else ""))
    for name in (*MODEL, *OTHERS, "idle"):
        cells = [summary["shares"].get(name), device and device.get(name)]
        if not any(cells):
            continue
        ms = f"{cells[0] * step_ms:.3f}" if cells[0] else ""
        lines.append(f"{name:<40} {ms:>10}" + "".join(f" {cell:>8.1%}" if cell else " " * 9 for cell in cells).rstrip())
    lines += ["", f"{summary['operators_by'] + ' of the operators':<40} {'ms a step':>10} {'share':>8} {'calls':>8}"]
    lines += [
        f"{_short(op['name']):<40} {op['seconds'] / steps * 1e3:>10.3f} {op['share']:>8.1%} {op['calls']:>8}"
        for op in summary["operators"]
    ]
    return lines


def _short(name: str) -> str:
    name = name.replace("autograd::engine::evaluate_function: ", "evaluate ")
    return name if len(name) <= 40 else name[:37] + "..."
