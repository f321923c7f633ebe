"""Profiles of some dozens of steps by torch's profiler, divided into the phases of the training loop."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, schedule

from trainer.config.keys import WARM_UP
from trainer.device import silence_profiler, traits
from trainer.files import write_atomically
from trainer.training.interfaces import Report
from trainer.training.phases import PREFIX, recorded_phases
from trainer.training.state import RunState

STARTING = 2  # of the warm-up steps, run under a profiler that discards them, because its own start takes time
STEP = "ProfilerStep"  # torch's mark of a step
MODEL = ("forward", "backward", "optimizer")
OTHERS = ("data", "metrics", "validation", "saving", "rest")
COSTLIEST = 10


class Profile:
    """Profiles a run while entered, from step WARM_UP + 1 to `max_steps`, and writes trace.json.

    The loop marks its phases (`training/phases.py`); the time of a step outside all phases is `rest`.

    Attributes:
        steps: steps so far.
        summary: the content of profile.json; None until the recording has ended.
    """

    def __init__(self, max_steps: int, device: torch.device, folder: Path) -> None:
        self.folder = folder
        self.steps = 0
        self.summary: dict[str, Any] | None = None
        on_cuda = traits(device).profiled
        if not on_cuda:
            silence_profiler()
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
        plan = schedule(wait=WARM_UP - STARTING, warmup=STARTING, active=max_steps - WARM_UP, repeat=1)
        self.profiler = profile(activities=activities, schedule=plan, on_trace_ready=self._read)
        self.phases = ExitStack()

    def __enter__(self) -> Profile:
        self.phases.enter_context(recorded_phases())
        self.profiler.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.profiler.stop()
        self.phases.close()

    def counting(self, report: Report) -> Report:
        """Return a report that also counts the steps for the profiler."""
        return _StepCounter(report, self)

    def step(self) -> None:
        """End a step, and the recording with the last one."""
        self.steps += 1
        self.profiler.step()

    def _read(self, profiler: profile) -> None:
        """Write trace.json and compute the summary, when the recording ends with the last step or with the run."""
        profiler.export_chrome_trace(str(self.folder / "trace.json"))
        events = profiler.events()
        host, device = phase_times(events)
        wall = sum(host.values())
        if not wall:
            return
        shares = {name: time / wall for name, time in host.items()}
        device_shares = {name: time / wall for name, time in device.items()} if any(device.values()) else None
        if device_shares is not None:
            device_shares["idle"] = 1 - sum(device_shares.values())
        model_shares = device_shares or shares
        steps = self.steps - WARM_UP
        self.summary = {
            "steps": steps,
            "seconds_per_step": wall / steps / 1e6,
            "shares": shares,
            "device_shares": device_shares,
            "not_model_share": 1 - sum(model_shares[name] for name in MODEL),
            "operators_by": "self device time" if device_shares else "self CPU time",
            "operators": costliest(profiler, wall, on_device=device_shares is not None),
        }

    def report(self, samples: int) -> list[str]:
        """Write profile.json and profile.txt, and return the lines of the latter; `samples` is the number per step."""
        if self.summary is None:
            return [f"profile    none: training ended after {self.steps} steps, and the first {WARM_UP} warm up"]
        text = json.dumps(self.summary, indent=2) + "\n"
        write_atomically(self.folder / "profile.json", text.encode())
        lines = describe(self.summary, samples)
        write_atomically(self.folder / "profile.txt", ("\n".join(lines) + "\n").encode())
        return lines


class _StepCounter:
    """A report that counts the steps for the profiler."""

    def __init__(self, report: Report, profile: Profile) -> None:
        self.begin, self.row = report.begin, report.row
        self.report, self.profile = report, profile

    def advance(self, state: RunState, batches: int, samples: int) -> None:
        self.report.advance(state, batches, samples)
        self.profile.step()


def phase_times(events: Iterable[Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the microseconds of each phase on the training thread, and those of the device's work for it.

    A kernel belongs to the phase in which the operator that launched it began, on whichever thread: the backward pass
    runs on another one.
    """
    events = list(events)
    host, device = (dict.fromkeys((*MODEL, *OTHERS), 0.0) for _ in range(2))
    on_host = [event for event in events if event.device_type == DeviceType.CPU]
    marks = [event for event in on_host if event.name.startswith(PREFIX)]
    for mark in marks:
        host[mark.name[len(PREFIX) :]] += mark.time_range.elapsed_us()
    steps = sum(event.time_range.elapsed_us() for event in on_host if event.name.startswith(STEP))
    host["rest"] = max(steps - sum(host.values()), 0.0)
    begins = [mark.time_range.start for mark in marks]  # events come in the order of their beginnings
    for event in on_host:
        if event.kernels and not event.is_user_annotation:
            last = bisect_right(begins, event.time_range.start) - 1
            inside = last >= 0 and event.time_range.start <= marks[last].time_range.end
            name = marks[last].name[len(PREFIX) :] if inside else "rest"
            device[name] += sum(kernel.duration for kernel in event.kernels)
    return host, device


def costliest(profiler: profile, wall: float, *, on_device: bool) -> list[dict[str, Any]]:
    """Return the operators with the longest time of their own, without that of the operators they call."""

    def time(entry: Any) -> float:
        return entry.self_device_time_total if on_device else entry.self_cpu_time_total

    entries = [
        entry
        for entry in profiler.key_averages()
        if entry.device_type == DeviceType.CPU and not entry.key.startswith((PREFIX, STEP))
    ]
    return [
        {"name": entry.key, "calls": entry.count, "seconds": time(entry) / 1e6, "share": time(entry) / wall}
        for entry in sorted(entries, key=time, reverse=True)[:COSTLIEST]
    ]


def describe(summary: dict[str, Any], samples: int) -> list[str]:
    """Return the lines of profile.txt: the summary in words and two tables."""
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
