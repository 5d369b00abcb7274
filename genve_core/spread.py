"""A film's pieces spread over the workers of a cluster. They come back as the files of a `Job`, and the output is made from
those as on one machine: with the same bytes."""

from __future__ import annotations

import heapq
import threading
from collections import Counter
from collections.abc import Callable, Generator, Sequence

from .cluster import Cluster, Slot, WorkerLostError
from .job import Finished, Job
from .piece_worker import Order
from .steps import OnProgress, silent

TRIES = 3  # workers that a piece may cost


def _unsaid(notes: Sequence[str]) -> None:
    """For who does not want to be told."""


def spread_frames(cluster: Cluster, job: Job, order: Order, report: OnProgress = silent,
                  say: Callable[[Sequence[str]], None] = _unsaid) -> Generator[Finished]:
    """All frames in order, as `finished_frames` gives them; a piece whose worker dies is made by another.

    say: is given what a person should be told, all of it each time. Raises what a worker raised, and RuntimeError if
    none is left.
    """
    spread = _Spread(cluster, job, order)
    try:
        for piece in range(job.pieces):
            while not job.has(piece):
                spread.wait_for(piece, report)
                say(tuple(spread.notes))
            yield from job.frames(piece)
            say(tuple(spread.notes))  # what happened while the frames were taken
    finally:
        spread.stop()
        job.remove_if_empty()


class _Spread:
    """A film under way. Each slot has a thread that takes pieces, lowest first, for its worker."""

    def __init__(self, cluster: Cluster, job: Job, order: Order):
        self._cluster, self._job, self._order = cluster, job, order
        self._todo = [piece for piece in range(job.pieces) if not job.has(piece)]  # a heap
        self._wanted = sum(job.lengths[piece] for piece in self._todo)  # frames
        self._made = 0  # frames
        self._left = len(self._todo)  # pieces that are not made
        self._deaths: Counter[int] = Counter()  # of workers, by piece
        self._error: BaseException | None = None
        self._stopped = False
        self._changed = threading.Condition()
        self._files = order.files() if self._todo else []
        self.notes: list[str] = []
        self._threads = [threading.Thread(target=self._work, args=(slot,), daemon=True)
                         for slot in cluster.slots[: len(self._todo)]]
        for thread in self._threads:
            thread.start()

    def wait_for(self, piece: int, report: OnProgress) -> None:
        """Until a piece is there or something has happened."""
        with self._changed:
            if self._error is not None:
                raise self._error
            if not self._job.has(piece):
                if not any(thread.is_alive() for thread in self._threads):
                    raise RuntimeError(f"no worker of the cluster is left ({self.notes[-1]})")
                self._changed.wait(0.5)
            if self._wanted:
                report("workers", self._made, self._wanted)

    def stop(self) -> None:
        """End all work; workers in the middle of a piece are killed."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._left:
            for slot in self._cluster.slots:
                self._cluster.kill(slot)
        for thread in self._threads:
            thread.join()

    def _work(self, slot: Slot) -> None:
        """A worker, and after its death another, until all pieces are made or none can be started."""
        try:
            while self._wait_for_work() and self._start(slot):
                self._make_pieces(slot)
        except BaseException as error:  # it is raised where the frames are taken
            with self._changed:
                self._error = self._error or getattr(error, "cause", None) or error
                self._changed.notify_all()

    def _start(self, slot: Slot) -> bool:
        try:
            self._cluster.start(slot, self._order, self._files, self.notes)
        except WorkerLostError as error:
            self._gone(slot, f"a worker on {slot.host} could not be started ({error})")
            return False
        return True

    def _make_pieces(self, slot: Slot) -> None:
        """Until none is left or the worker dies."""
        while (piece := self._next()) is not None:
            try:
                self._cluster.fetch(slot, piece, self._job, self.notes)
            except WorkerLostError as error:
                self._gone(slot, f"a worker on {slot.host} died in piece {piece + 1} of {self._job.pieces}; another makes it")
                self._give_back(piece, error)
                return
            with self._changed:
                self._left -= 1
                self._made += self._job.lengths[piece]
                self._changed.notify_all()
        if not self._stopped:
            self._cluster.finish(slot)

    def _wait_for_work(self) -> bool:
        """False when all is made. A piece that another worker has may come back."""
        with self._changed:
            self._changed.wait_for(lambda: self._todo or not self._left or self._stopped)
            return bool(self._left) and not self._stopped

    def _next(self) -> int | None:
        with self._changed:
            self._changed.wait_for(lambda: self._todo or not self._left or self._stopped)
            return heapq.heappop(self._todo) if self._todo and not self._stopped else None

    def _gone(self, slot: Slot, note: str) -> None:
        self._cluster.kill(slot)
        if not self._stopped:
            self.notes.append(note)

    def _give_back(self, piece: int, error: BaseException) -> None:
        with self._changed:
            heapq.heappush(self._todo, piece)
            self._deaths[piece] += 1
            if self._deaths[piece] == TRIES:
                self._error = RuntimeError(f"piece {piece + 1} of {self._job.pieces} cost {TRIES} workers ({error}); "
                                           f"is there not enough memory? try a smaller --segment")
            self._changed.notify_all()
