"""Processes that are killed and started again: services, and a writer that goes on where the last one ended."""

from __future__ import annotations

import subprocess
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import nda_index as nda
from benchmarks.upgrade import find_ports, start_service

DEADLINE = 60.0  # seconds after which nothing of a removed image may be found
SPAWN = get_context("spawn")

Task = tuple[Path, list[str], list[str]]  # a source to add, its keys, and keys to remove


class Services:
    """Two services on one index, each with its own stored answers."""

    def __init__(self, index: Path, work: Path) -> None:
        self._index, self._work, self.ports = index, work, find_ports(2)
        self._running = [self._start(port) for port in self.ports]

    def _start(self, port: int) -> subprocess.Popen[bytes]:
        folder = self._work / str(port)
        folder.mkdir(exist_ok=True)
        return start_service(Path(__file__).parents[1], self._index, port, folder)

    def kill(self, number: int) -> None:
        """Kill a service, and start it again."""
        self._running[number].kill()
        self._running[number].wait()
        self._running[number] = self._start(self.ports[number])

    def kill_all(self) -> None:
        """Kill both."""
        for process in self._running:
            process.kill()
            process.wait()


class Writer:
    """A process that edits the index; after a kill the next one goes on."""

    def __init__(self, index: Path) -> None:
        self._index = index
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=write, args=(self._index, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def begin(self, task: Task) -> None:
        """Begin to add, remove and compact."""
        try:
            self._pipe.send(task)
        except ConnectionError:  # it was killed when it had nothing to do
            self._process.join()
            self._start()
            self._pipe.send(task)

    def finish(self, task: Task) -> str:
        """Wait until a task is done, by another process if the first was killed; what was wrong, or ""."""
        while True:
            try:
                return str(self._pipe.recv())
            except (EOFError, ConnectionError):
                self._process.join()
                self._start()
                self.begin(task)

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.join()


def write(index: Path, pipe: Connection) -> None:
    """Add, remove and compact, for each task that comes; what an earlier writer has done of it is not done again."""
    while True:
        source, added, gone = pipe.recv()
        try:
            with nda.open_index(index) as opened:
                present = set(opened.keys(opened.image_ids).to_pylist())
            if added[0] not in present:
                nda.add_images(index, source)
            if gone[0] in present:
                nda.remove_images(index, keys=gone)
            summary = nda.compact(index, wait=DEADLINE)
            pipe.send(f"{summary.waiting} files wait after {DEADLINE:g} s" if summary.waiting else "")
        except nda.NdaIndexError as error:
            pipe.send(f"{type(error).__name__}: {error}")
