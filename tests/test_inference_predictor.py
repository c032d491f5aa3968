"""From a frame to maps: sizes, windows, mirrored views, batches, and what can go wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from inference_samples import BYTES, CPU, Across, Colours, Heard, Narrow, predictor, read_out
from torch import Tensor

from vsscli.errors import VssError
from vsscli.inference.bands import label_map, mean_map
from vsscli.inference.memory import is_out_of_memory
from vsscli.inference.plans import FLIP, PAPER, AugmentationPlan
from vsscli.inference.predictor import Predictor
from vsscli.inference.readout import ReadOut, view_size
from vsscli.models.network import Network, Normalisation
from vsscli.models.scores import ScoreKind, Scores, to_probabilities


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def smooth_image(height: int, width: int) -> np.ndarray:
    coarse = torch.from_numpy(image(4, 5)).permute(2, 0, 1)[None].float()
    wide = F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 255)
    return wide[0].permute(1, 2, 0).round().to(torch.uint8).contiguous().numpy()


def test_a_vspw_frame_gets_the_size_that_mmsegmentation_gives_it() -> None:
    # specs/vit_adapter.md: 853x480 -> 1592x896 -> 1600x896.
    assert view_size((480, 853), 896, 1.0, 32) == (896, 1600)


@pytest.mark.parametrize(
    ("frame", "size", "scale", "divisor", "expected"),
    [
        ((360, 480), None, 1.0, 32, (384, 480)),
        ((480, 360), None, 1.0, 32, (480, 384)),
        ((360, 480), None, 512 / 896, 32, (224, 288)),  # 205.7 -> 206, 274.67 -> 275
        ((360, 480), 180, 1.0, 4, (180, 240)),
        ((5, 50), 1, 0.1, 8, (8, 16)),
    ],
)
def test_sides_are_rounded_up_to_what_the_network_takes(
    frame: tuple[int, int], size: int | None, scale: float, divisor: int, expected: tuple[int, int]
) -> None:
    assert view_size(frame, size, scale, divisor) == expected


def test_a_view_is_the_networks_distribution_of_the_whole_frame() -> None:
    frame = image(16, 24)
    (views,) = predictor(Colours()).maps([frame])
    cells = torch.from_numpy(frame).permute(2, 0, 1).float().div(255).unfold(1, 4, 4).unfold(2, 4, 4).mean(dim=(3, 4))
    expected = torch.einsum("ck,kyx->cyx", Colours().weights, cells).softmax(0)
    torch.testing.assert_close(views.maps[0], expected)
    assert (views.weights, views.size) == ((1.0,), (16, 24))


def test_a_network_sees_what_its_normalisation_makes_of_the_frame() -> None:
    seen: list[Tensor] = []

    class Seeing(Colours):
        def forward(self, images: Tensor) -> Scores:
            seen.append(images)
            return super().forward(images)

    normalisation = Normalisation((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))
    frame = image(16, 24)
    Predictor(Seeing(), normalisation, read_out(FLIP), CPU).maps([frame])
    plain = normalisation(torch.from_numpy(frame).permute(2, 0, 1))
    assert torch.equal(seen[0], torch.stack([plain, plain.flip(-1)]))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_weights_times_counts_make_a_distribution_under_any_plan() -> None:
    (views,) = predictor(Colours(), read_out(PAPER)).maps([image(30, 42)])
    assert len(views.maps) == 8
    assert [tuple(map_.shape[1:]) for map_ in views.maps][::7] == [(6, 6), (12, 18)]
    mean = mean_map(views, (30, 42))
    torch.testing.assert_close(mean.sum(0), torch.ones(30, 42))


class Constant(Colours):
    def forward(self, images: Tensor) -> Scores:
        height, width = (side // self.stride for side in images.shape[-2:])
        values = torch.tensor([1.0, 3.0, 2.0, 0.0, -1.0])[:, None, None].expand(len(images), 5, height, width)
        return Scores(values, ScoreKind.LOGITS)


@pytest.mark.parametrize("window", [None, (8, 16)])
def test_what_does_not_depend_on_the_image_depends_on_no_scale_flip_or_window(window: tuple[int, int] | None) -> None:
    (views,) = predictor(Constant(), read_out(PAPER, window=window)).maps([image(30, 42)])
    expected = torch.tensor([1.0, 3.0, 2.0, 0.0, -1.0]).softmax(0)[:, None, None].expand(5, 30, 42)
    torch.testing.assert_close(mean_map(views, (30, 42)), expected)


def test_the_mirrored_view_is_mirrored_back() -> None:
    # Class 0 grows to the right in whatever the network is shown: of both views together it is everywhere 1/2.
    (plain,) = predictor(Across()).maps([image(16, 24)])
    torch.testing.assert_close(plain.maps[0][0, 0], torch.linspace(0, 1, 6))
    (both,) = predictor(Across(), read_out(FLIP)).maps([image(16, 24)])
    torch.testing.assert_close(both.maps[0][0], torch.ones(4, 6))
    assert both.weights == (0.5,)


def test_a_mirrored_frame_gets_the_mirrored_prediction() -> None:
    plan = AugmentationPlan("two", (0.5, 1.0), True)
    there = predictor(Colours(), read_out(plan)).maps([image(32, 48)])[0]
    back = predictor(Colours(), read_out(plan)).maps([np.ascontiguousarray(image(32, 48)[:, ::-1])])[0]
    torch.testing.assert_close(mean_map(there, (32, 48)), mean_map(back, (32, 48)).flip(-1), atol=2e-3, rtol=0)


def test_a_smooth_frame_is_labelled_nearly_alike_at_other_scales() -> None:
    frame = smooth_image(64, 96)
    once = predictor(Colours()).label(frame)
    many = predictor(Colours(), read_out(AugmentationPlan("three", (0.75, 1.25, 2.0), True))).label(frame)
    assert (once == many).mean() > 0.95


@pytest.mark.parametrize("step", [None, (8, 8), (24, 4)])
def test_windows_average_to_the_whole_frame_for_a_network_that_looks_at_single_cells(
    step: tuple[int, int] | None,
) -> None:
    frame = image(40, 56)
    (whole,) = predictor(Colours()).maps([frame])
    (windowed,) = predictor(Colours(), read_out(window=(24, 16), step=step)).maps([frame])
    torch.testing.assert_close(windowed.maps[0], whole.maps[0])


def test_overlapping_windows_are_averaged_by_how_many_hold_a_cell() -> None:
    # 40 wide, windows of 24 at 0 and 16: each says 0, 1/5, ... 1 from left to right over its six cells.
    (views,) = predictor(Across(), read_out(window=(16, 24), step=(16, 16))).maps([image(16, 40)])
    ramp = torch.linspace(0, 1, 6)
    expected = torch.cat([ramp[:4], (ramp[4:] + ramp[:2]) / 2, ramp[2:]])
    torch.testing.assert_close(views.maps[0][0, 0], expected)


def test_windows_of_the_mirrored_view_are_mirrored_back_where_they_lay() -> None:
    # 44 wide, windows of 24 at 0, 16 and 20: not symmetric, so the mirrored view has them at other cells of the frame.
    frame = image(16, 44 + 4)[:, :44].copy()
    how = read_out(FLIP, window=(16, 24), step=(16, 16))
    (both,) = Predictor(Across(divisor=4), BYTES, how, CPU).maps([frame])
    (plain,) = Predictor(Across(divisor=4), BYTES, read_out(window=(16, 24), step=(16, 16)), CPU).maps([frame])
    torch.testing.assert_close(both.maps[0], plain.maps[0] + plain.maps[0].flip(-1))
    ramp = torch.linspace(0, 1, 6)
    sums, counts = torch.zeros(11), torch.zeros(11)
    for start in (0, 4, 5):
        sums[start : start + 6] += ramp
        counts[start : start + 6] += 1
    torch.testing.assert_close(plain.maps[0][0, 0], sums / counts)


@pytest.mark.parametrize("kind", list(ScoreKind))
@pytest.mark.parametrize("classes", [5, 40])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_scores_of_any_kind_and_layout_become_the_distribution_that_the_one_function_makes(
    kind: ScoreKind, classes: int, layout: torch.memory_format
) -> None:
    values = torch.rand(2, classes, 4, 6, generator=torch.Generator().manual_seed(1))
    values = values.softmax(1) if kind is ScoreKind.PROBABILITIES else values
    expected = to_probabilities(Scores(values, kind))

    class Saying(Colours):
        def forward(self, images: Tensor) -> Scores:
            return Scores(values.contiguous(memory_format=layout), kind)

    found = predictor(Saying(classes)).maps([image(16, 24)] * 2)
    torch.testing.assert_close(torch.stack([views.maps[0] for views in found]), expected)
    (found_otherwise, _) = predictor(Saying(classes), replace(read_out(), missing="normalise")).maps(
        [image(16, 24)] * 2
    )
    expected = to_probabilities(Scores(values, kind), "normalise")
    torch.testing.assert_close(found_otherwise.maps[0], expected[0])


def test_a_frame_smaller_than_the_window_is_padded_and_the_padding_cut_off() -> None:
    network = Colours()
    (views,) = predictor(network, read_out(FLIP, window=(64, 32))).maps([image(16, 48)])
    (whole,) = predictor(Colours(), read_out(FLIP)).maps([image(16, 48)])
    torch.testing.assert_close(views.maps[0], whole.maps[0])


def test_frames_together_get_what_each_gets_alone() -> None:
    frames = [image(16, 24, seed) for seed in range(3)]
    how = read_out(AugmentationPlan("two", (0.5, 1.0), True))
    together = predictor(Colours(), how).maps(frames)
    for frame, views in zip(frames, together, strict=True):
        (alone,) = predictor(Colours(), how, batch_size=1).maps([frame])
        for one, other in zip(views.maps, alone.maps, strict=True):
            torch.testing.assert_close(one, other)


def test_views_and_frames_share_a_forward_pass_up_to_the_batch_size() -> None:
    network = Colours()
    predict = predictor(network, read_out(FLIP), batch_size=6)
    assert predict.frames_at_once((16, 24)) == 3
    predict.maps([image(16, 24)] * 4)
    assert network.batches == [6, 2]


def test_no_more_frames_are_taken_together_than_maps_can_be_held(monkeypatch: pytest.MonkeyPatch) -> None:
    predict = predictor(Colours(), batch_size=64)
    assert predict.frames_at_once((64, 64)) == 64
    # 5 classes on 16 x 16 cells of 4 bytes are 5120 bytes a frame.
    monkeypatch.setattr("vsscli.inference.predictor.MAPS_BYTES", 15_500)
    assert predict.frames_at_once((64, 64)) == 3
    monkeypatch.setattr("vsscli.inference.predictor.MAPS_BYTES", 1)
    assert predict.frames_at_once((64, 64)) == 1


def test_on_a_cpu_large_views_go_through_the_network_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsscli.inference.predictor.CPU_BATCH_PIXELS", 1000)
    network = Colours()
    predictor(network, batch_size=8).maps([image(16, 24)] * 3)
    predictor(network, batch_size=8).maps([image(40, 40)] * 2)
    assert network.batches == [2, 1, 1, 1]


def test_a_batch_that_does_not_fit_is_halved_once_and_for_all_and_said_once() -> None:
    heard, network = Heard(), Narrow()
    frames = [image(16, 24, seed) for seed in range(8)]
    predict = predictor(network, batch_size=8)
    found = predict.maps(frames, heard)
    assert network.batches == [2, 2, 2, 2]
    assert predict.batch_size == 2
    predict.maps(frames, heard)
    assert len(heard.warnings) == 1
    assert "2 views at once, not 8" in heard.warnings[0]
    for views, expected in zip(found, predictor(Colours()).maps(frames), strict=True):
        torch.testing.assert_close(views.maps[0], expected.maps[0])


def test_a_single_view_that_does_not_fit_is_an_error_with_a_remedy() -> None:
    network = Narrow()
    network.room = 0
    with pytest.raises(VssError, match="single view of 16x24") as raised:
        predictor(network).maps([image(16, 24)])
    assert "predict.window" in raised.value.hint


def test_only_a_lack_of_memory_is_taken_for_one() -> None:
    # The text is what torch 2.14 raises for torch.empty(2**50) on a CPU.
    text = "[enforce fail at alloc_cpu.cpp] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    assert is_out_of_memory(RuntimeError(text))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("can't allocate memory"))


class Faulty(Colours):
    def forward(self, images: Tensor) -> Scores:
        raise RuntimeError("a bug")


def test_other_errors_of_a_network_come_through_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        predictor(Faulty()).maps([image(16, 24)])


class Diverged(Colours):
    def forward(self, images: Tensor) -> Scores:
        scores = super().forward(images)
        scores.values[0, 0, 0, 0] = float("nan")
        return scores


def test_scores_that_are_not_finite_are_an_error_not_a_prediction() -> None:
    with pytest.raises(VssError, match="not finite"):
        predictor(Diverged()).maps([image(16, 24)])


def test_a_map_that_does_not_cover_the_image_is_an_error_not_a_shifted_prediction() -> None:
    class Unpadded(Colours):
        def forward(self, images: Tensor) -> Scores:
            scores = super().forward(images)
            return scores._replace(values=scores.values[..., 1:-1, 1:-1])

    with pytest.raises(
        VssError, match="an image of 16x24 into a map of 2x4 cells, which do not cover it at its stride of 4"
    ):
        predictor(Unpadded()).label(np.zeros((16, 24, 3), np.uint8))


def test_labels_are_those_of_the_maps() -> None:
    frames = [image(30, 42, seed) for seed in range(2)]
    predict = predictor(Colours(), read_out(FLIP))
    for label, views in zip(predict.labels(frames), predict.maps(frames), strict=True):
        assert label.dtype == np.uint8
        np.testing.assert_array_equal(label, label_map(views).numpy())


class Convolving(Network):
    """A network with weights, to see what a precision and reading out do to it."""

    def __init__(self) -> None:
        super().__init__(3, 4, 8, BYTES)
        torch.manual_seed(0)
        self.convolution = torch.nn.Conv2d(3, 3, 4, stride=4)
        self.seen: list[torch.dtype] = []
        self.eval()

    def forward(self, images: Tensor) -> Scores:
        values = self.convolution(images)
        self.seen.append(values.dtype)
        return Scores(values, ScoreKind.LOGITS)


def test_half_precision_is_the_networks_alone_and_near_full() -> None:
    network = Convolving()
    (half,) = predictor(network, read_out(FLIP, precision="bf16")).maps([image(16, 24)])
    (full,) = predictor(network, read_out(FLIP)).maps([image(16, 24)])
    assert network.seen == [torch.bfloat16, torch.float32]
    assert half.maps[0].dtype == torch.float32
    torch.testing.assert_close(half.maps[0], full.maps[0], atol=0.05, rtol=0)


def test_reading_out_leaves_a_network_as_it_was() -> None:
    network = Convolving()
    before = {name: (value.clone(), value.stride()) for name, value in network.state_dict().items()}
    predictor(network, read_out(FLIP)).maps([image(16, 24)])
    after = network.state_dict()
    assert all(
        torch.equal(value, after[name]) and stride == after[name].stride() for name, (value, stride) in before.items()
    )
    assert not network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_what_does_not_fit_is_refused_before_anything_runs() -> None:
    with pytest.raises(VssError, match="multiples of 8"):
        predictor(Colours(), read_out(window=(20, 16)))
    with pytest.raises(VssError, match="precision 16"):
        predictor(Colours(), read_out(precision="16"))
    with pytest.raises(ValueError, match="eval"):
        Predictor(Colours().train(), BYTES, read_out(), CPU)


@pytest.mark.parametrize(
    ("size", "how", "words"),
    [
        ((65000, 65000), read_out(window=(16, 24)), "65000x65000, 4225000000 pixels times 5 classes are 21125000000"),
        ((1, 2**26), read_out(), "in one piece"),
        ((8000, 8000), read_out(), "becomes a view of 64000000 pixels"),
        ((3, 90000), read_out(size=896), "pixels in all views times 5 classes|in one piece"),
    ],
)
def test_frames_that_no_memory_suffices_for_are_refused_with_the_number(
    size: tuple[int, int], how: ReadOut, words: str
) -> None:
    with pytest.raises(VssError, match=words) as caught:
        predictor(Colours(), how).require_room(size, "a frame of video clip")
    assert "tiles" in caught.value.hint


@pytest.mark.parametrize("size", [(4320, 7680), (1080, 1920), (480, 853)])
def test_large_frames_of_real_cameras_are_not(size: tuple[int, int]) -> None:
    predictor(Colours(num_classes=254), read_out()).require_room(size, "a frame")
