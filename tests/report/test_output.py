"""Output that goes away never ends training, and quietly ends a command that only prints."""

from __future__ import annotations

import io
import os
import pty
import threading
from pathlib import Path

import pytest

from helpers.faulty_models import write_counting
from helpers.fork_server import BROKEN_PIPE, ForkServer
from helpers.stacks import STACK
from helpers.sweeps import TINY, all_weights, places, results, states, weights
from helpers.trees import same_tree
from trainer.report import output
from trainer.report.output import OutputFile, OutputLost

RUN = (*TINY, "epochs=3")
LOST = "cannot be written any more"
CLOSED = {"stdout": (1,), "stderr": (2,), "both": (1, 2), "all": (0, 1, 2)}


def broken_pipe() -> int:
    """Return the end to write to of a pipe whose reader is gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def test_a_file_is_written_to_until_the_first_failure(capfd: pytest.CaptureFixture[str]) -> None:
    file = OutputFile(broken_pipe(), "the log")
    assert [file.write(b"a line\n") for _ in range(3)] == [7, 7, 7]
    file.close()
    assert capfd.readouterr() == ("", f"the log {LOST} (Broken pipe); the program continues without it\n")


def test_a_loss_that_matters_is_raised_once() -> None:
    file = OutputFile(broken_pipe(), "stdout")
    file.essential = True
    with pytest.raises(OutputLost):
        file.write(b"a line\n")
    assert file.write(b"a line\n") == 7


def test_a_slow_reader_of_a_pipe_that_does_not_block_is_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    file, sent, received = OutputFile(writer, None), os.urandom(2**20), io.BytesIO()

    def read() -> None:
        while more := os.read(reader, 1000):
            received.write(more)

    thread = threading.Thread(target=read)
    thread.start()
    with io.BufferedWriter(file) as buffered:
        buffered.write(sent)
    thread.join()
    os.close(reader)
    assert received.getvalue() == sent


def test_characters_that_the_terminal_lacks_are_written_as_escapes() -> None:
    path = Path("shown")
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with output._standard(descriptor, None, ascii_only) as stream:
        stream.write("━ 3 °\n")
    assert path.read_text() == "\\u2501 3 \\xb0\n"
    os.close(descriptor)


def test_a_stream_that_some_code_closes_stays_open() -> None:
    stream = output._standard(1, None)
    stream.close()
    print("still there", file=stream)


@pytest.fixture(scope="module")
def expected(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The weights of a run whose output is read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("expected"))
        done = server.start(*RUN).end()
        assert (done.code, done.err) == (0, "")
        return weights(done.folder)


@pytest.mark.parametrize("way", ["/dev/full", BROKEN_PIPE, *CLOSED])
def test_a_run_goes_on_without_its_output(way: str, expected: dict, server: ForkServer) -> None:
    closed = CLOSED.get(way, ())
    done = server.start(*RUN, terminal=None if closed else way, closed=closed).end()
    assert done.code == 0
    assert done.err.count(LOST) == (not closed)
    assert done.err.count("\n") == (not closed)
    assert (1 in closed or not closed) == (not done.out)
    assert "next       train resume=" in (done.folder / "train.log").read_text()
    assert results(done.folder)["status"] == "completed"
    assert same_tree(weights(done.folder), expected)


WAITING = """
while self.steps == 20 and not pathlib.Path("gone").exists():
    pathlib.Path("waiting").touch()
    time.sleep(0.01)
"""


@pytest.mark.parametrize("sweep", [(), ("-m", "seed=0,1")])
def test_a_terminal_that_is_lost_without_a_signal_does_not_end_training(
    sweep: tuple[str, ...], server: ForkServer
) -> None:
    keyboard, terminal = pty.openpty()
    words = (*sweep, *write_counting(WAITING), "epochs=20")
    running = server.start(*words, terminal=os.ttyname(terminal))
    running.until(lambda folder: Path("waiting").exists())
    os.close(keyboard)
    os.close(terminal)
    Path("gone").touch()
    done = running.end()
    assert done.code == 0, done.err
    assert done.err == f"stdout {LOST} (Input/output error); the program continues without it\n"
    assert {results(place)["epochs"] for place in places(done.folder) or [done.folder]} == {20}


@pytest.mark.parametrize(
    ("way", "stack"), [("/dev/full", "sweep.stack=false"), pytest.param("both", STACK, marks=pytest.mark.exhaustive)]
)
def test_a_sweep_goes_on_without_its_output(way: str, stack: str, server: ForkServer) -> None:
    words = ("-m", *RUN, "seed=0,1", "sweep.workers=1", stack)
    closed = CLOSED.get(way, ())
    done = server.start(*words, terminal=None if closed else way, closed=closed).end()
    assert done.code == 0, done.err
    assert set(states(done.folder).values()) == {"done"}
    assert (done.folder / "leaderboard.csv").exists()
    assert same_tree(all_weights(done.folder), all_weights(server.start(*words).end().folder))


# No byte fits into train.log for some steps; the other files are smaller, or are written later.
FULL = """
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
logs = sorted(pathlib.Path("outputs").rglob("train.log"), key=lambda path: path.stat().st_mtime_ns)
limit = logs[-1].stat().st_size if self.steps in (3, 4) and logs else hard
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
"""


@pytest.mark.parametrize("sweep", [(), ("-m", "seed=0,1", "sweep.workers=1")])
def test_a_full_disk_below_the_log_does_not_end_a_run(sweep: tuple[str, ...], server: ForkServer) -> None:
    words = (*write_counting(FULL), "validate_every=1st", "checkpoint.every=100ep", "epochs=8")
    done = server.start(*sweep, *words, terminal="/dev/null").end()
    assert done.code == 0, done.err
    assert done.err == ("" if sweep else f"train.log {LOST} (File too large); the program continues without it\n")
    for place in places(done.folder) or [done.folder]:
        assert results(place)["status"] == "completed"
        lines = (place / "train.log").read_text().splitlines()
        assert len([line for line in lines if line[:6].strip().isdecimal()]) == 2  # rows of the table


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("train", ("--help",)),
        ("train", ("--cfg", "job")),
        ("train", ("-sc", "install=bash")),
        ("trainer", ("--help",)),
        ("trainer", ("list",)),
        ("trainer", ("list", "data")),
    ],
)
def test_a_command_that_prints_ends_with_its_reader(program: str, words: tuple[str, ...], server: ForkServer) -> None:
    done = server.start(*words, program=program, terminal=BROKEN_PIPE).end()
    assert (done.code, done.err) == (141, "")
    done = server.start(*words, program=program, terminal="/dev/full").end()
    assert (done.code, done.err) == (1, f"{program}: error: stdout could not be written (No space left on device).\n")
    assert server.start(*words, program=program, closed=(1,)).end().code == 0


def test_the_shells_completion_ends_with_its_reader(server: ForkServer) -> None:
    shell = {"COMP_WORDS": "trainer ", "COMP_CWORD": "1", "_TRAINER_COMPLETE": "bash_complete"}
    done = server.start(program="trainer", terminal=BROKEN_PIPE, **shell).end()
    assert (done.code, done.err) == (141, "")
