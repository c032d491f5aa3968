"""The contract of all network families; a new family only adds its configuration to network_samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from network_samples import CLASSES, CONFIGS, Case
from torch import nn

from vsscli.data.classes import ClassTable
from vsscli.errors import VssError
from vsscli.inference.bands import mean_map
from vsscli.inference.plans import AugmentationPlan
from vsscli.inference.predictor import Predictor
from vsscli.inference.readout import ReadOut
from vsscli.models.build import build_network, read_config
from vsscli.models.checkpoints import Checkpoint, load_checkpoint, restore_network, save_checkpoint
from vsscli.models.network import Network
from vsscli.models.outputs import MaskOutputs
from vsscli.models.scores import ScoreKind, to_probabilities


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS.keys())
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def network(case: Case) -> Network:
    torch.manual_seed(1)
    return build_network(case.config, CLASSES, load_pretrained=False)


def images(count: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(height * width))


def norms(network: Network) -> list[nn.Module]:
    kinds = nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm
    return [module for module in network.modules() if isinstance(module, kinds)]


class TestEveryFamily:
    def test_says_its_stride_divisor_and_classes(self, case: Case, network: Network) -> None:
        assert (network.stride, network.divisor, network.num_classes) == (case.stride, case.divisor, CLASSES)
        assert len(network.normalisation.mean) == len(network.normalisation.std) == 3

    @pytest.mark.parametrize("cells", [(1, 1), (3, 5), (4, 7)])
    def test_the_score_map_covers_the_image_exactly(self, case: Case, network: Network, cells: tuple[int, int]) -> None:
        height, width = case.size(*(count * case.divisor for count in cells))
        with torch.no_grad():
            scores = network.eval()(images(1, height, width))
        assert scores.kind is case.kind
        assert scores.values.shape == (1, CLASSES, height // case.stride, width // case.stride)

    def test_refuses_sides_that_are_no_multiples_of_its_divisor(self, case: Case, network: Network) -> None:
        if case.divisor == 1:
            return
        with pytest.raises(VssError, match=f"multiples of {case.divisor}"):
            network(images(1, 2 * case.divisor, case.divisor + 1))

    def test_takes_no_other_size_than_its_crop(self, case: Case, network: Network) -> None:
        assert network.crop == case.crop
        if case.crop is not None:
            with pytest.raises(VssError, match="made for 64x96"):
                network(images(1, 96, 64))

    def test_predicts_frames_of_any_size(self, case: Case, network: Network) -> None:
        how = ReadOut(None, None, None, AugmentationPlan("two", (1.0, 1.5), True))
        predictor = Predictor(network.eval(), network.normalisation, how, torch.device("cpu"))
        frame = np.random.default_rng(1).integers(0, 256, (50, 101, 3), np.uint8)
        (views,) = predictor.maps([frame])
        mean = mean_map(views, (50, 101))
        assert mean.shape == (CLASSES, 50, 101)
        torch.testing.assert_close(mean.sum(dim=0), torch.ones(50, 101))

    def test_a_batch_of_one_equals_a_batch_of_many(self, network: Network) -> None:
        network.eval()
        batch = images(3, 64, 96)
        with torch.no_grad():
            together = network(batch).values
            alone = torch.cat([network(image[None]).values for image in batch])
        torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-4)

    def test_the_gradient_reaches_every_parameter(self, case: Case, network: Network) -> None:
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim == 1:
                    parameter.uniform_(0.5, 1.5)  # some norms start at zero, which lets no gradient through
                elif not parameter.any():
                    parameter.normal_(std=0.02)  # so do layers that say where deformable attention looks
        outputs = network.train().outputs(images(2, *case.size(64, 64)))
        if isinstance(outputs, MaskOutputs):  # whose probabilities are flat where masks are sure
            sum(layer.class_logits.mean() + layer.mask_logits.square().mean() for layer in outputs.layers).backward()
        else:
            to_probabilities(outputs.scores)[:, 0].mean().backward()
        learning = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        starved = [name for name, p in learning if p.grad is None or not p.grad.abs().sum() > 0]
        assert starved == []

    def test_every_parameter_is_in_one_group(self, case: Case, network: Network) -> None:
        groups = network.parameter_groups(0.9)
        grouped = [id(parameter) for group in groups for parameter in group.parameters]
        assert sorted(grouped) == sorted(id(parameter) for parameter in network.parameters() if parameter.requires_grad)
        assert len({group.name for group in groups}) == len(groups)
        decayed = {id(parameter) for group in groups if group.decay for parameter in group.parameters}
        assert decayed
        of_norms = {id(part) for norm in norms(network) for part in norm.parameters() if part.requires_grad}
        assert of_norms <= decayed if case.decays_norms else not of_norms & decayed
        assert max(group.lr_scale for group in groups) == 1.0

    def test_evaluation_repeats_itself_after_training_steps(self, case: Case, network: Network) -> None:
        optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
        network.train()(images(2, *case.size(64, 64))).values.square().mean().backward()
        optimiser.step()
        network.eval()
        with torch.no_grad():
            batch = images(1, *case.size(32, 64))
            assert torch.equal(network(batch).values, network(batch).values)

    @pytest.mark.parametrize("whole", [False, True], ids=["autocast", "all-bf16"])
    def test_bf16_gives_no_nan(self, case: Case, network: Network, whole: bool) -> None:
        network.eval()
        batch = images(2, 64, 96)
        with torch.no_grad():
            exact = to_probabilities(network(batch))
            if whole:
                probabilities = to_probabilities(network.bfloat16()(batch.bfloat16()))
            else:
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    probabilities = to_probabilities(network(batch))
        assert probabilities.dtype == torch.float32
        if case.kind is ScoreKind.LOGITS:
            torch.testing.assert_close(probabilities, exact, atol=0.05, rtol=0)
        else:  # queries look where masks are above one half, which a rounding can change
            assert probabilities.isfinite().all()
            assert (probabilities - exact).abs().mean() < 0.02

    def test_outputs_hold_the_scores_and_features_and_can_be_parted(self, case: Case, network: Network) -> None:
        network.eval()
        frames = network.frames  # of a clip, the first of which follows no other
        batch = images(3 * frames, *case.size(64, 96))
        with torch.no_grad():
            outputs = network.outputs(batch)
            exact = {"atol": 0.0, "rtol": 0.0} if frames == 1 else {"atol": 1e-5, "rtol": 1e-4}
            firsts = network(batch[::frames]).values
            torch.testing.assert_close(outputs.scores.values[::frames], firsts, **exact)
        part = outputs.part(slice(frames, None))
        torch.testing.assert_close(part.scores.values, outputs.scores.values[frames:], atol=1e-6, rtol=1e-5)
        if outputs.features is None or part.features is None:
            assert network.feature_channels == 0
            assert (outputs.features, part.features) == (None, None)
            return
        cells = tuple(side // 4 for side in batch.shape[-2:])
        assert outputs.features.shape == (3 * frames, network.feature_channels, *cells)
        assert torch.equal(part.features, outputs.features[frames:])

    def test_whole_clips_are_frames_that_follow_each_other(self, case: Case, network: Network) -> None:
        frames = network.frames
        if frames == 1:
            return
        batch = images(2 * frames, *case.size(64, 96))
        with torch.no_grad():
            whole, handed, seen = network.eval().outputs(batch).scores.values, None, []
            for frame in range(frames):
                outputs, handed = network.follow(batch[frame::frames], handed)
                seen.append(outputs.scores.values)
        torch.testing.assert_close(torch.stack(seen, 1).flatten(0, 1), whole, atol=1e-5, rtol=1e-4)
        with pytest.raises(VssError, match=f"{frames + 1} images are not clips of {frames} frames"):
            network.outputs(images(frames + 1, *case.size(64, 96)))

    @pytest.mark.slow
    def test_compiled_it_gives_the_same_scores(self, case: Case, network: Network) -> None:
        network.eval()
        compiles = "compile" in type(read_config(case.config)).model_fields
        config = {**case.config, "compile": True} if compiles else case.config
        other = build_network(config, CLASSES, load_pretrained=False).eval()
        other.load_state_dict(network.state_dict())
        if config is case.config:
            other.compile()
        with torch.no_grad():
            torch.testing.assert_close(
                other(images(2, 64, 96)).values, network(images(2, 64, 96)).values, atol=1e-4, rtol=1e-4
            )

    def test_channels_last_gives_the_same_scores(self, network: Network) -> None:
        network.eval()
        batch = images(2, 64, 96)
        with torch.no_grad():
            plain = network(batch).values
            network.to(memory_format=torch.channels_last)
            other = network(batch.contiguous(memory_format=torch.channels_last)).values
        torch.testing.assert_close(other, plain, atol=1e-5, rtol=1e-4)

    def test_a_saved_network_comes_back_bit_for_bit(self, case: Case, network: Network, tmp_path: Path) -> None:
        network.train()(images(2, *case.size(64, 64)))  # moves running statistics
        table = ClassTable("seven", tuple("abcdefg"), tuple((i, i, i) for i in range(CLASSES)))
        checkpoint = Checkpoint(case.config, network.state_dict(), table, network.normalisation, {}, {}, 1)
        save_checkpoint(tmp_path / "network.pt", checkpoint)
        restored = restore_network(load_checkpoint(tmp_path / "network.pt"))
        assert not restored.training
        assert restored.normalisation == network.normalisation
        with torch.no_grad():
            assert torch.equal(restored(images(1, 64, 96)).values, network.eval()(images(1, 64, 96)).values)
