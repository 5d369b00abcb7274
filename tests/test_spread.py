"""Pieces over several workers, with the workers in threads of this process: which may be lost at any piece."""

import tempfile
from collections import Counter

import pytest
import torch
from media_clips import smooth_video, to_bytes, write_clip

from genve_core.bundle import load_bundle
from genve_core.cluster import Cluster, Slot, WorkerLostError, compare
from genve_core.errors import InputError
from genve_core.film import FilmRun, assign, pieces, scan
from genve_core.job import Job, finished_frames
from genve_core.media import VideoReader
from genve_core.models import Models
from genve_core.piece_worker import Order, PieceWorker, versions
from genve_core.pipeline import EnhanceConfig, Enhancer
from genve_core.spread import spread_frames

H, W = 24, 32


class Here(Cluster):
    """Real workers without Ray between. lost: {piece: workers that it costs}."""

    def __init__(self, count, lost=None, startable=True):
        self.slots = [Slot("node", f"host{i}", 1, 0) for i in range(count)]
        self.device, self.lost, self.startable = "cpu", Counter(lost or {}), startable

    def start(self, slot, order, files, notes):
        if not self.startable:
            raise WorkerLostError("gone")
        slot.worker = slot.worker or PieceWorker(threads=1)
        assert not any([slot.worker.lacks(sent) for sent in files])
        slot.worker.begin(order, files)

    def fetch(self, slot, piece, job, notes):
        if self.lost[piece]:
            self.lost[piece] -= 1
            raise WorkerLostError("killed")
        parts = slot.worker.make(piece)
        name, _ = next(parts)
        job.receive(piece, name, parts)

    def finish(self, slot):
        slot.worker.end()

    def kill(self, slot):
        if slot.worker is not None:
            slot.worker.close()
            slot.worker = None


@pytest.fixture
def film(tmp_path, tiny_bundle, monkeypatch):
    """(order, a function that opens a job of it, its frames as made here)."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    video = write_clip(tmp_path / "film.mkv", list(to_bytes(smooth_video(60, H, W))), pixel_format="bgr0")
    enhancer = Enhancer(Models(load_bundle(tiny_bundle), "cpu"), EnhanceConfig(size=(H, W), segment=6))
    with VideoReader(video) as reader:
        found, pictures, _ = assign(scan(reader, cuts=None), (), (H, W))
        work = pieces(enhancer, found)

        def job(name):
            return Job(tmp_path / name, "same", [len(piece.segment.own) for piece in work], reader.info, (H, W))

        run = FilmRun(enhancer, reader, found, pictures)
        frames = torch.stack([rgb for rgb, _ in finished_frames(job("here.mkv"), lambda i: run.piece(work[i]))])
    return Order(video, tiny_bundle, enhancer.config, "cpu", found.shots, work, pictures), job, frames


def test_all_frames_come_in_order_and_a_lost_workers_piece_is_made_by_another(film):
    order, job, frames = film
    cluster, reports, said = Here(2, lost={1: 2, 3: 1}), [], set()
    spread = torch.stack([rgb for rgb, _ in spread_frames(cluster, job("out.mkv"), order, lambda *told: reports.append(told),
                                                          said.update)])
    assert torch.equal(spread, frames)
    assert len(order.pieces) == 5 and sum(cluster.lost.values()) == 0
    assert {note.split(" ", 4)[-1] for note in said} == {"died in piece 2 of 5; another makes it",
                                                         "died in piece 4 of 5; another makes it"}
    assert reports[-1][0] == "workers" and reports[-1][2] == 60 and reports == sorted(reports)


def test_only_missing_pieces_are_made_and_none_if_all_are_there(film, tmp_path):
    order, job, frames = film
    cluster = Here(2)
    first = job("out.mkv")
    assert len(list(spread_frames(cluster, first, order))) == 60
    assert first.resumed == 0
    (third,) = first.folder.glob("00002-*.mkv")
    third.unlink()
    reports = []
    again = job("out.mkv")
    assert again.resumed == 4
    spread = [rgb for rgb, _ in spread_frames(cluster, again, order, lambda *told: reports.append(told))]
    assert torch.equal(torch.stack(spread), frames) and reports[-1][2] == len(order.pieces[2].segment.own)
    assert len(list(spread_frames(Here(1, startable=False), job("out.mkv"), order))) == 60


def test_a_piece_that_costs_three_workers_ends_the_run_and_the_others_are_kept(film):
    order, job, _ = film
    under_way = job("out.mkv")
    said = r"piece 3 of 5 cost 3 workers \(killed\); is there not enough memory\? try a smaller --segment"
    with pytest.raises(RuntimeError, match=said):
        list(spread_frames(Here(1, lost={2: 3}), under_way, order))
    assert job("out.mkv").resumed == 2


def test_without_any_worker_the_run_ends_and_leaves_no_empty_job(film):
    order, job, _ = film
    under_way = job("out.mkv")
    said = r"no worker of the cluster is left \(a worker on host\d could not be started \(gone\)\)"
    with pytest.raises(RuntimeError, match=said):
        list(spread_frames(Here(2, startable=False), under_way, order))
    assert not under_way.folder.exists()


def test_whoever_stops_taking_frames_stops_the_workers(film):
    order, job, _ = film
    cluster = Here(2)
    frames = spread_frames(cluster, job("out.mkv"), order)
    next(frames)
    frames.close()
    assert job("out.mkv").resumed < 5 and not any(slot.worker for slot in cluster.slots)


def test_what_a_worker_raises_is_raised(film):
    order, job, _ = film
    order.input.write_bytes(b"no video")
    with pytest.raises(InputError, match=r"film\.mkv is not a video that can be read"):
        list(spread_frames(Here(2), job("out.mkv"), order))


def test_a_piece_that_arrives_with_other_bytes_is_refused(film):
    _, job, _ = film
    with pytest.raises(OSError, match=r"piece 1 was damaged on its way here; run the same command again to make it anew"):
        job("out.mkv").receive(1, "00001-0123456789abcdef.mkv", [b"other", b"bytes"])
    assert not job("out.mkv").resumed


def test_other_versions_are_refused_or_told():
    theirs = {**versions(), "host": "far"}
    assert compare(theirs) == []
    (note,) = compare({**theirs, "torch": "1.0"})
    assert note.startswith(f"far has torch 1.0, this machine {versions()['torch']}: the bytes may differ")
    with pytest.raises(InputError, match=r"far has genve 0\.0, this machine .+; install one version on all machines"):
        compare({**theirs, "genve": "0.0"})
