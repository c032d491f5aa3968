"""What every network family promises; a new family adds its configuration to CONFIGS and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from vsscli.data.classes import ClassTable
from vsscli.errors import VssError
from vsscli.models.build import build_network
from vsscli.models.checkpoints import Checkpoint, load_checkpoint, restore_network, save_checkpoint
from vsscli.models.network import Network
from vsscli.models.scores import ScoreKind, to_probabilities

CLASSES = 7


@dataclass(frozen=True)
class Case:
    config: dict[str, Any]
    kind: ScoreKind
    stride: int
    divisor: int


LIGHT = {"family": "light", "channels": 32, "pretrained": "none", "dropout": 0.0}
CONFIGS = {
    "light-efficientnet": Case({**LIGHT, "encoder": "test_efficientnet"}, ScoreKind.LOGITS, 4, 4),
    "light-resnet": Case({**LIGHT, "encoder": "test_resnet", "frozen_norm": True}, ScoreKind.LOGITS, 4, 4),
    "light-convnext": Case({**LIGHT, "encoder": "test_convnext"}, ScoreKind.LOGITS, 4, 32),
}


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS.keys())
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def network(case: Case) -> Network:
    torch.manual_seed(1)
    return build_network(case.config, CLASSES, load_pretrained=False)


def images(count: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(height * width))


class TestEveryFamily:
    def test_says_its_stride_divisor_and_classes(self, case: Case, network: Network) -> None:
        assert (network.stride, network.divisor, network.num_classes) == (case.stride, case.divisor, CLASSES)
        assert len(network.normalisation.mean) == len(network.normalisation.std) == 3

    @pytest.mark.parametrize("cells", [(1, 1), (3, 5), (4, 7)])
    def test_the_score_map_covers_the_image_exactly(self, case: Case, network: Network, cells: tuple[int, int]) -> None:
        height, width = (count * case.divisor for count in cells)
        with torch.no_grad():
            scores = network.eval()(images(1, height, width))
        assert scores.kind is case.kind
        assert scores.values.shape == (1, CLASSES, height // case.stride, width // case.stride)

    def test_refuses_sides_that_are_no_multiples_of_its_divisor(self, case: Case, network: Network) -> None:
        if case.divisor == 1:
            return
        with pytest.raises(VssError, match=f"multiples of {case.divisor}"):
            network(images(1, 2 * case.divisor, case.divisor + 1))

    def test_a_batch_of_one_equals_a_batch_of_many(self, network: Network) -> None:
        network.eval()
        batch = images(3, 64, 96)
        with torch.no_grad():
            together = network(batch).values
            alone = torch.cat([network(image[None]).values for image in batch])
        torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-4)

    def test_the_gradient_reaches_every_parameter(self, network: Network) -> None:
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim == 1:
                    parameter.uniform_(0.5, 1.5)  # some norms start at zero, which lets no gradient through
        probabilities = to_probabilities(network.train()(images(2, 64, 64)))
        probabilities[:, 0].mean().backward()
        starved = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert starved == []

    def test_every_parameter_is_in_one_group(self, network: Network) -> None:
        groups = network.parameter_groups(0.9)
        grouped = [id(parameter) for group in groups for parameter in group.parameters]
        assert sorted(grouped) == sorted(id(parameter) for parameter in network.parameters())
        assert len({group.name for group in groups}) == len(groups)
        assert all(parameter.ndim > 1 for group in groups if group.decay for parameter in group.parameters)
        assert max(group.lr_scale for group in groups) == 1.0

    def test_evaluation_repeats_itself_after_training_steps(self, network: Network) -> None:
        optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
        network.train()(images(2, 64, 64)).values.square().mean().backward()
        optimiser.step()
        network.eval()
        with torch.no_grad():
            assert torch.equal(network(images(1, 32, 64)).values, network(images(1, 32, 64)).values)

    @pytest.mark.parametrize("whole", [False, True], ids=["autocast", "all-bf16"])
    def test_bf16_gives_no_nan(self, network: Network, whole: bool) -> None:
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
        torch.testing.assert_close(probabilities, exact, atol=0.05, rtol=0)

    def test_channels_last_gives_the_same_scores(self, network: Network) -> None:
        network.eval()
        batch = images(2, 64, 96)
        with torch.no_grad():
            plain = network(batch).values
            network.to(memory_format=torch.channels_last)
            other = network(batch.contiguous(memory_format=torch.channels_last)).values
        torch.testing.assert_close(other, plain, atol=1e-5, rtol=1e-4)

    def test_a_saved_network_comes_back_bit_for_bit(self, case: Case, network: Network, tmp_path: Path) -> None:
        network.train()(images(2, 64, 64))  # moves running statistics
        table = ClassTable("seven", tuple("abcdefg"), tuple((i, i, i) for i in range(CLASSES)))
        checkpoint = Checkpoint(case.config, network.state_dict(), table, network.normalisation, {}, {}, 1)
        save_checkpoint(tmp_path / "network.pt", checkpoint)
        restored = restore_network(load_checkpoint(tmp_path / "network.pt"))
        assert not restored.training
        assert restored.normalisation == network.normalisation
        with torch.no_grad():
            assert torch.equal(restored(images(1, 64, 96)).values, network.eval()(images(1, 64, 96)).values)
