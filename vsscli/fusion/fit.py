"""Weights and temperatures of a fusion, fitted on labelled frames from the cache alone and evaluated on held-out ones.

The objective is the cross-entropy of the weighted mean on the labelled pixels: unlike mIoU, it is smooth in weights and
temperatures. Letters: S sources, C classes, K kept, P pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from vsscli.errors import VssError
from vsscli.fusion.ensemble import fuse_frame, fused_header
from vsscli.fusion.mix import FLOOR, Dense, Mean, Method, rebuild
from vsscli.fusion.sources import read_source, require_size
from vsscli.metrics.confusion import ConfusionMatrix
from vsscli.store.encode import IGNORE, list_mass
from vsscli.store.reader import Store
from vsscli.talk import SILENCE, Talk

PIXELS = 200_000
"""Most labelled pixels to fit on; drawn evenly over the frames."""

RANGE = 3.0
"""Bound on the logarithms of weights and temperatures, so that no sample removes a source altogether."""

Place = tuple[str, int]
"""A frame: its video and its number."""

Truth = Callable[[str, int], np.ndarray]
"""Mask (H, W) uint8 of a frame that has one, 255 for void."""


@dataclass(frozen=True)
class Share:
    """One part of the data: its number of frames, and cross-entropy (in nats) and mIoU of a mean on it."""

    frames: int
    loss: float
    miou: float


@dataclass(frozen=True)
class Fit:
    """The result of `fit_weights`.

    Parameters
    ----------
    weights, temperatures
        One for each source, in order; the weights sum to 1.
    fitted, held_out
        Before (equal weights, no temperatures) and after, on the frames it was fitted on and on the others.
    """

    weights: tuple[float, ...]
    temperatures: tuple[float, ...]
    fitted: tuple[Share, Share]
    held_out: tuple[Share, Share]


def fit_weights(
    stores: Sequence[Store], frames: Sequence[Place], truth: Truth, *, seed: int = 0, talk: Talk = SILENCE
) -> Fit:
    """Fit weights and temperatures on one half of the labelled videos, and evaluate them on the other.

    If only one video is labelled, its second half is held out, and ``talk`` says so. It also warns if the result does
    worse than equal weights on the held-out part.

    Parameters
    ----------
    stores
        The S sources, matching as for `fuse`, with lists on a score grid of stride 1.
    frames, truth
        The labelled frames, video by video, and their masks.
    seed
        Seed of the sample of pixels.
    talk
        Called with the progress, by frame, and with warnings.

    Raises
    ------
    VssError
        Fewer than two labelled frames, no labelled pixel in one of the parts, masks that differ in size from the
        stores' frames, or a coarser score grid.
    """
    if stores[0].encoding.grid != 1:
        raise VssError(f"{stores[0].path} keeps lists on a coarser grid than its labels", "predict with store.grid=1")
    truth = _of_matching_size(truth, stores[0])
    fitted, held = _halves(frames, stores[0])
    if fitted[-1][0] == held[0][0]:
        talk.say(f"only video {held[0][0]} has masks: fitting on its first {len(fitted)} frames, the rest are held out")
    generator = np.random.default_rng(seed)
    with talk.track("sample", len(fitted) + len(held)) as done:
        samples = [_sample(stores, truth, part, generator, done) for part in (fitted, held)]
    for part, sample in zip((fitted, held), samples, strict=True):
        if not len(sample[0].place):
            raise VssError(f"the masks of {len(part)} frames from {part[0][0]} on label no pixel", "label more videos")
    count = len(stores)

    def loss(values: np.ndarray) -> float:
        return _loss(samples[0], *_unpack(values, count))

    # The other weights are relative to the first source's.
    start = np.zeros(2 * count - 1)
    # float32 can't resolve smaller steps.
    options = {"maxiter": 60, "eps": 1e-3}
    found = minimize(loss, start, method="L-BFGS-B", bounds=[(-RANGE, RANGE)] * len(start), options=options)
    weights, temperatures = _unpack(found.x, count)
    plain = (np.full(count, 1 / count), np.ones(count))
    shares = []
    with talk.track("evaluate", 2 * (len(fitted) + len(held))) as done:
        for part, sample in zip((fitted, held), samples, strict=True):
            for way in (plain, (weights, temperatures)):
                how = Mean(way[0].astype(np.float32), tuple(way[1].tolist()))
                shares.append(Share(len(part), _loss(sample, *way), _miou(stores, truth, part, how, done)))
    if shares[3].loss > shares[2].loss:
        talk.warn(
            f"on the held-out frames the fitted weights do worse than equal ones (loss {shares[3].loss:.4f} against "
            f"{shares[2].loss:.4f}): fit on more videos, or use equal weights"
        )
    return Fit(tuple(weights.tolist()), tuple(temperatures.tolist()), (shares[0], shares[1]), (shares[2], shares[3]))


def sweep(
    stores: Sequence[Store],
    frames: Sequence[Place],
    truth: Truth,
    points: int = 11,
    *,
    method: Method = "arithmetic",
    talk: Talk = SILENCE,
) -> list[tuple[float, float]]:
    """mIoU of a fusion of two stores as a function of the first one's weight, at evenly spaced weights from 0 to 1.

    Raises
    ------
    VssError
        Not exactly two stores, no frames, or masks that differ in size from the stores' frames.
    """
    if len(stores) != 2:
        raise VssError(f"a sweep is over the weight of one of two stores, not {len(stores)}", "name two stores")
    if not frames:
        raise VssError(f"no frame of {stores[0].path} has a mask", "name a split whose frames have masks")
    truth = _of_matching_size(truth, stores[0])
    curve = []
    with talk.track("sweep", points * len(frames)) as done:
        for weight in np.linspace(0, 1, points):
            shares = np.array([weight, 1 - weight], np.float32)
            used = [store for store, share in zip(stores, shares, strict=True) if share > 0]
            how = Mean(shares[shares > 0], method=method)
            curve.append((float(weight), _miou(used, truth, frames, how, done)))
    return curve


def _of_matching_size(truth: Truth, store: Store) -> Truth:
    """The same masks, each refused unless it has the size of its frame."""

    def label(video: str, t: int) -> np.ndarray:
        mask = truth(video, t)
        require_size(mask, store, video, t)
        return mask

    return label


def _halves(frames: Sequence[Place], store: Store) -> tuple[list[Place], list[Place]]:
    """Frames to fit on, and frames to hold out: every second video, or the second half of a single one."""
    if len(frames) < 2:
        raise VssError(f"{len(frames)} frames of {store.path} have a mask", "name a split whose frames have masks")
    videos = list(dict.fromkeys(video for video, _ in frames))
    if len(videos) == 1:
        return list(frames[: len(frames) // 2]), list(frames[len(frames) // 2 :])
    first = set(videos[::2])
    return [frame for frame in frames if frame[0] in first], [frame for frame in frames if frame[0] not in first]


@dataclass(frozen=True)
class _Sample:
    """Labelled pixels of one source.

    The listed probabilities (K, P), the probability of each other class, the number of those, and the true class's
    place in the list, K if it is not listed; (P,) each.
    """

    listed: np.ndarray
    each: np.ndarray
    others: np.ndarray
    place: np.ndarray

    def truth_under(self, temperature: float) -> np.ndarray:
        """Probability of the true class under a temperature, (P,)."""
        power = np.float32(1 / temperature)
        most = np.maximum(self.listed.max(axis=0), self.each)
        listed, each = (self.listed / most) ** power, (self.each / most) ** power
        total = listed.sum(axis=0) + self.others * each
        rows = np.concatenate([listed, each[None]])
        return np.take_along_axis(rows, self.place[None], axis=0)[0] / total


def _sample(
    stores: Sequence[Store],
    truth: Truth,
    frames: Sequence[Place],
    generator: np.random.Generator,
    done: Callable[[int], None],
) -> list[_Sample]:
    classes = stores[0].header.num_classes
    parts: list[list[_Sample]] = [[] for _ in stores]
    each_frame = max(1, PIXELS // len(frames))
    for video, t in frames:
        label = truth(video, t)
        known = np.flatnonzero(label.reshape(-1) != IGNORE)
        chosen = generator.choice(known, min(each_frame, len(known)), replace=False)
        right = label.reshape(-1)[chosen]
        for store, gathered in zip(stores, parts, strict=True):
            source = read_source(store, video, t)
            if isinstance(source, Dense):
                dense = rebuild(Dense(source.logits[:, chosen]), classes)
                nothing = np.zeros(len(chosen), np.float32)
                gathered.append(_Sample(dense, nothing, nothing, right.astype(np.intp)))
                continue
            top_class, top_probability = source.top_class[:, chosen], source.top_probability[:, chosen]
            listed, each = list_mass(top_class, top_probability, classes)
            others = classes - (top_class != IGNORE).sum(axis=0, dtype=np.float32)
            hit = top_class == right
            place = np.where(hit.any(axis=0), hit.argmax(axis=0), len(top_class))
            gathered.append(_Sample(listed, each, others, place))
        done(1)
    names = _Sample.__dataclass_fields__
    return [_Sample(*(np.concatenate([getattr(p, n) for p in own], axis=-1) for n in names)) for own in parts]


def _unpack(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights and temperatures from their logarithms, of which the first weight's is left out."""
    weights = np.exp(np.concatenate([[0.0], values[: count - 1]]))
    return weights / weights.sum(), np.exp(values[count - 1 :])


def _loss(samples: Sequence[_Sample], weights: np.ndarray, temperatures: np.ndarray) -> float:
    mean = sum(
        np.float32(weight) * sample.truth_under(temperature)
        for sample, weight, temperature in zip(samples, weights, temperatures, strict=True)
    )
    return float(-np.log(np.maximum(mean, FLOOR)).mean(dtype=np.float64))


def _miou(
    stores: Sequence[Store], truth: Truth, frames: Sequence[Place], how: Mean, done: Callable[[int], None]
) -> float:
    encoding = fused_header(stores, [1.0] * len(stores), stores[0].path).parsed_encoding()
    lookup = np.arange(256, dtype=np.uint8)
    lookup[stores[0].header.num_classes :] = IGNORE
    confusion = ConfusionMatrix(stores[0].header.num_classes, lookup)
    for video, t in frames:
        confusion.update(truth(video, t), fuse_frame(stores, how, encoding, video, t)["label"])
        done(1)
    return float(confusion.miou)
