"""Training batches depend only on (seed, step, slot), and loader errors arrive as they were raised."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vsscli.data.augment import TrainAugment, apply_image, apply_label, draw_geometry
from vsscli.data.batches import TrainItems
from vsscli.data.config import Augment
from vsscli.data.loader import LostLoader, TrainingLoader, _next, _report_unless_disconnected, training_loader
from vsscli.data.masks import MaskIds, read_mask
from vsscli.data.order import Address, Order, StepSampler
from vsscli.data.samples import Crops, LabelledFrames, StoredPixels, UnlabelledFrames
from vsscli.data.videos import FolderVideo, Frame
from vsscli.errors import VssError

CLASSES = 5
AUGMENT = Augment(crop=(16, 20))


@pytest.fixture
def videos(tmp_path: Path) -> list[FolderVideo]:
    """Three videos of four frames 24x32, with masks of values 0 (void) and 1..5."""
    rng = np.random.default_rng(0)
    videos = []
    for name in ("a", "b", "c"):
        frames = []
        for t in range(4):
            image, mask = tmp_path / f"{name}{t}.jpg", tmp_path / f"{name}{t}.png"
            Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(image)
            Image.fromarray(rng.integers(0, CLASSES + 1, (24, 32), dtype=np.uint8)).save(mask)
            frames.append(Frame(name, str(t), image, mask))
        videos.append(FolderVideo(name, tuple(frames)))
    return videos


def labelled(videos: list[FolderVideo]) -> TrainItems:
    return TrainItems(LabelledFrames(videos, MaskIds(), CLASSES), TrainAugment(AUGMENT))


def load(
    items: TrainItems, *, start: int = 0, steps: int = 5, workers: int = 0, rank: int = 0, world: int = 1, seed: int = 7
) -> list[Crops]:
    loader = training_loader(
        items, batch_size=4, seed=seed, start=start, steps=steps, workers=workers, rank=rank, world=world
    )
    batches = list(loader)
    assert len(batches) == len(loader)
    return batches


def same(left: list[Crops], right: list[Crops]) -> bool:
    assert len(left) == len(right)
    pairs = zip(map(tensors, left), map(tensors, right), strict=True)
    return all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))


def tensors(crops: Crops) -> list[Tensor]:
    return [*crops[:3], *(crops.stored or ())]


def test_batches_are_images_and_labels(videos: list[FolderVideo]) -> None:
    for images, labels, padding, stored, _, present in load(labelled(videos)):
        assert padding.shape == (4, 16, 20)
        assert padding.dtype == torch.bool
        assert stored is None
        assert (labels[padding] == 255).all()
        assert images.shape == (4, 3, 16, 20)
        assert images.dtype == torch.uint8
        assert labels.shape == (4, 16, 20)
        assert labels.dtype == torch.uint8
        assert set(labels.unique().tolist()) <= {0, 1, 2, 3, 4, 255}
        assert present is not None
        assert [row.nonzero().flatten().tolist() for row in present] == [crop.unique().tolist() for crop in labels]


def test_loader_processes_change_nothing(videos: list[FolderVideo]) -> None:
    items = labelled(videos)
    assert same(load(items, workers=0), load(items, workers=2))


def test_two_training_processes_share_the_batches_of_one(videos: list[FolderVideo]) -> None:
    items = labelled(videos)
    first, second = load(items, rank=0, world=2), load(items, rank=1, world=2)
    together = [
        Crops(*(torch.stack([one, other], 1).flatten(0, 1) for one, other in zip(a[:3], b[:3], strict=True)))
        for a, b in zip(first, second, strict=True)
    ]
    assert same(together, load(items))


@pytest.mark.parametrize("workers", [0, 2])
def test_starting_later_gives_the_batches_of_later(videos: list[FolderVideo], workers: int) -> None:
    items = labelled(videos)
    assert same(load(items, start=3, workers=workers), load(items)[3:])


def test_another_seed_gives_other_batches(videos: list[FolderVideo]) -> None:
    items = labelled(videos)
    assert not same(load(items), load(items, seed=8))


def test_the_same_frame_is_augmented_anew_each_time(videos: list[FolderVideo]) -> None:
    items = labelled(videos)
    crops = [items[Address(0, step, slot, 5)] for step in range(2) for slot in range(2)]
    assert len({crop[0].numpy().tobytes() for crop in crops}) == 4  # type: ignore[index]


def test_every_frame_comes_once_an_epoch_in_another_order_each_time() -> None:
    # 7 frames in batches of 3: epochs end within batches; 14 batches are 6 epochs.
    addresses = [address for batch in StepSampler(Order(0, (7,)), 3, start=0, steps=14) for address in batch]
    epochs = [tuple(address.frame for address in addresses[7 * n : 7 * n + 7]) for n in range(6)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len(set(epochs)) == 6
    assert [(address.step, address.slot) for address in addresses[:4]] == [(0, 0), (0, 1), (0, 2), (1, 0)]


def test_a_batch_may_be_larger_than_the_data() -> None:
    [batch] = StepSampler(Order(0, (2,)), 6, start=0, steps=1)
    assert sorted(address.frame for address in batch) == [0, 0, 0, 1, 1, 1]


def test_an_empty_split_and_a_batch_that_cannot_be_shared_are_refused() -> None:
    with pytest.raises(VssError, match="no frames"):
        StepSampler(Order(0, (0,)), 4, start=0, steps=1)
    with pytest.raises(VssError, match=r"batch of 8 .* 3 processes"):
        StepSampler(Order(0, (5,)), 8, start=0, steps=1, world=3)


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def draw_all() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_and_the_training_process_do_not_touch_each_others_generators(
    videos: list[FolderVideo], workers: int
) -> None:
    seed_all(1)
    batches = load(labelled(videos), workers=workers)
    drawn = draw_all()
    seed_all(1)
    assert draw_all() == drawn
    assert same(batches, load(labelled(videos), workers=workers))


def test_masks_become_classes(videos: list[FolderVideo]) -> None:
    frames = LabelledFrames(videos, MaskIds(), CLASSES)
    label = frames.load(6).labels
    assert videos[1].frames[2].mask is not None
    mask = read_mask(videos[1].frames[2].mask)
    assert np.array_equal(label, np.where(mask == 0, 255, mask - 1))


class Store:
    """Stands in for a pseudo-label store: opened when first read, pickled unopened."""

    def __init__(self, faulty: Callable[[], object] | None = None, size: tuple[int, int] = (24, 32)) -> None:
        self.faulty, self.size, self.opened = faulty, size, False

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "opened": False}

    def __call__(self, video: str, index: int) -> tuple[np.ndarray, StoredPixels[np.ndarray]]:
        self.opened = True
        if self.faulty is not None:
            self.faulty()
        label = np.full(self.size, 10 * "abc".index(video) + index, np.uint8)
        return label, StoredPixels(label + 1, label + 2, np.stack([label[::2, ::2]] * 3))


def pseudo(videos: list[FolderVideo], store: Store) -> TrainItems:
    return TrainItems(UnlabelledFrames(videos, store), TrainAugment(AUGMENT))


def test_pseudo_labels_are_asked_for_by_video_and_frame(videos: list[FolderVideo]) -> None:
    frames = UnlabelledFrames(videos, Store())
    assert [int(frames.load(index).labels[0, 0]) for index in range(12)] == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]
    assert np.array_equal(frames.load(6).image, videos[1].read(2))
    assert len(UnlabelledFrames([], Store())) == 0


def test_frames_without_labels_take_the_first_crop_and_know_their_padding(videos: list[FolderVideo]) -> None:
    sample = UnlabelledFrames(videos, None).load(5)
    assert sample.labels is None
    plain = Augment(crop=(20, 28), scale=(0.5, 0.9), colour_jitter=0)
    torch.manual_seed(4)
    crop = TrainAugment(plain)(sample)
    after = torch.rand(())
    torch.manual_seed(4)
    geometry = draw_geometry(plain, (24, 32))
    assert torch.equal(crop.images, apply_image(sample.image, geometry))
    assert (crop.labels == 255).all()
    assert torch.equal(crop.padding, apply_label(np.zeros((24, 32), np.uint8), geometry) == 255)
    torch.rand(())  # whether colours change
    assert torch.equal(torch.rand(()), after)


def test_pseudo_labels_load_in_loader_processes_and_open_there(videos: list[FolderVideo]) -> None:
    store = Store()
    in_workers = load(pseudo(videos, store), workers=2)
    assert not store.opened
    assert same(in_workers, load(pseudo(videos, Store())))


def test_items_survive_pickling(videos: list[FolderVideo]) -> None:
    items = pseudo(videos, Store())
    assert same(load(pickle.loads(pickle.dumps(items))), load(items))


def raise_error() -> None:
    raise VssError("store x.zarr is torn", "run it again")


def divide_by_zero() -> None:
    print(1 // 0)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_keep_message_and_hint(videos: list[FolderVideo], workers: int) -> None:
    with pytest.raises(VssError) as caught:
        load(pseudo(videos, Store(raise_error)), workers=workers)
    assert (caught.value.message, caught.value.hint) == ("store x.zarr is torn", "run it again")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_named(videos: list[FolderVideo], workers: int) -> None:
    path = videos[1].frames[3].image
    assert path is not None
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(VssError, match=str(path)) as caught:
        load(labelled(videos), workers=workers)
    assert "Traceback" not in caught.value.message
    assert caught.value.hint


def test_a_label_of_another_size_is_named(videos: list[FolderVideo]) -> None:
    with pytest.raises(VssError, match="a/0 is 32x24, but its pseudo-label is 16x12"):
        UnlabelledFrames(videos, Store(size=(12, 16))).load(0)
    mask = videos[0].frames[0].mask
    assert mask is not None
    Image.fromarray(np.ones((12, 16), np.uint8)).save(mask)
    with pytest.raises(VssError, match=f"a/0 is 32x24, but mask {mask} is 16x12"):
        LabelledFrames(videos, MaskIds(), CLASSES).load(0)


def test_an_id_outside_the_class_table_is_named(videos: list[FolderVideo]) -> None:
    with pytest.raises(VssError, match=r"\.png"):
        load(TrainItems(LabelledFrames(videos, MaskIds(), 3), TrainAugment(AUGMENT)))


def test_a_frame_without_mask_is_refused_before_loading(videos: list[FolderVideo]) -> None:
    bare = FolderVideo("d", (Frame("d", "0", videos[0].frames[0].image, None),))
    with pytest.raises(VssError, match="d/0 has no mask"):
        LabelledFrames([bare], MaskIds(), CLASSES)


def test_faults_of_the_program_are_not_dressed_up_as_the_users(videos: list[FolderVideo]) -> None:
    with pytest.raises(ZeroDivisionError):
        load(pseudo(videos, Store(divide_by_zero)))


@dataclass(frozen=True)
class Once:
    """Kills the first process that calls it."""

    file: Path

    def __call__(self) -> None:
        try:
            self.file.touch(exist_ok=False)
        except FileExistsError:
            return
        die()


def test_a_loader_process_that_is_killed_is_reported_and_the_others_end(
    videos: list[FolderVideo], tmp_path: Path
) -> None:
    items = pseudo(videos, Store(Once(tmp_path / "died")))
    with pytest.raises(LostLoader, match=rf"loader process .*{signal.strsignal(signal.SIGKILL)}") as caught:
        list(training_loader(items, batch_size=4, seed=0, start=0, steps=10**6, workers=2))
    assert "train.workers" in caught.value.hint
    assert multiprocessing.active_children() == []  # although the error is kept


@pytest.mark.skipif(not hasattr(signal, "SIGCHLD"), reason="no such signal")
def test_torch_does_not_get_to_raise_errors_whenever_a_process_ends(
    videos: list[FolderVideo], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.utils.data._utils.signal_handling._SIGCHLD_handler_set", False)  # as in a new process
    before = signal.getsignal(signal.SIGCHLD)
    load(labelled(videos), workers=1)
    assert signal.getsignal(signal.SIGCHLD) is before


def run_out_of_shared_memory() -> None:
    signal.signal(signal.SIGBUS, signal.SIG_DFL)  # not pytest's, which writes a traceback
    os.kill(os.getpid(), signal.SIGBUS)


class Batches:
    """Batches that can't be received from loader processes."""

    def __init__(self, error: Exception, workers: list[BaseProcess]) -> None:
        self._error, self._workers = error, workers

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Crops:
        raise self._error


@pytest.mark.skipif(sys.platform != "linux", reason="forks to be quick")
@pytest.mark.parametrize(
    ("ends", "said", "hint"),
    [
        (die, "Killed", "memory probably ran out"),
        (run_out_of_shared_memory, "Bus error", "shared memory"),
        (lambda: os._exit(3), "code 3", "train.batch_size"),
        (lambda: os._exit(0), "code 0", "train.workers=0"),
    ],
)
@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(104, "Connection reset by peer"),
        FileNotFoundError(2, "No such file or directory"),
        EOFError(),
        RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"),
    ],
)
def test_whatever_the_death_of_a_loader_process_breaks_it_is_reported(
    error: Exception, ends: Callable[[], None], said: str, hint: str
) -> None:
    fork = multiprocessing.get_context("fork")
    living, dying = fork.Process(target=time.sleep, args=(60,)), fork.Process(target=ends)
    living.start()
    dying.start()
    try:
        with pytest.raises(LostLoader, match=f"process {dying.pid} .*{said}") as caught:
            _next(Batches(error, [living, dying]))
        assert caught.value.__cause__ is error
        assert hint in caught.value.hint
    finally:
        living.kill()
        living.join()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_while_all_loader_processes_live_stays_what_it_is(workers: int) -> None:
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    living = [multiprocessing.get_context().Process(target=time.sleep, args=(60,)) for _ in range(workers)]
    for process in living:
        process.start()
    try:
        with pytest.raises(RuntimeError) as caught:
            _next(Batches(error, living))
        assert caught.value is error
    finally:
        for process in living:
            process.kill()
            process.join()


def test_leaving_early_ends_the_loader_processes(videos: list[FolderVideo]) -> None:
    loader: TrainingLoader = training_loader(labelled(videos), batch_size=4, seed=0, start=0, steps=1000, workers=2)
    batches = iter(loader)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    del batches
    assert multiprocessing.active_children() == []


def test_a_loader_process_says_nothing_of_a_training_process_that_is_gone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for error in (ConnectionResetError("gone"), EOFError()):
        _report_unless_disconnected(type(error), error, None)
    assert capsys.readouterr().err == ""
    _report_unless_disconnected(ValueError, ValueError("broken"), None)
    assert "broken" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="forks to be quick")
def test_ctrl_c_is_silent_in_loader_processes(videos: list[FolderVideo], tmp_path: Path) -> None:
    heard, began = tmp_path / "stderr", multiprocessing.get_context("fork").Event()

    def train() -> None:
        os.setsid()  # a process group of its own, as a terminal's foreground job has
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(heard, os.O_WRONLY | os.O_CREAT), 2)
        sys.stderr = os.fdopen(2, "w")
        try:
            for _ in training_loader(labelled(videos), batch_size=4, seed=0, start=0, steps=10**9, workers=2):
                began.set()
        except KeyboardInterrupt:
            sys.exit(130)

    process = multiprocessing.get_context("fork").Process(target=train)
    process.start()
    assert began.wait(30)
    assert process.pid is not None
    os.killpg(process.pid, signal.SIGINT)
    process.join(30)
    assert (process.exitcode, heard.read_text()) == (130, "")
