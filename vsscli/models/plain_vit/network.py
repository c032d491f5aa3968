"""Queries in a plain ViT: EoMT (Kerssies et al. 2025, arXiv:2503.19108), where they pass through its last blocks, and
PMT (arXiv:2603.25398), where they pass through a decoder over a frozen one; in clips they are handed from frame to
frame, as in VidEoMT (arXiv:2602.17807)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vsscli.errors import VssError
from vsscli.models.config import RANDOM
from vsscli.models.frozen import NEVER_LEARNS, Seen
from vsscli.models.network import VideoNetwork
from vsscli.models.outputs import Clip, MaskOutputs, QueryPrediction
from vsscli.models.plain_vit.config import PlainVitModel, doublings, usual_taps
from vsscli.models.plain_vit.decoder import Decoder, Laterals
from vsscli.models.plain_vit.head import QueryHead
from vsscli.models.plain_vit.masking import MaskedAttention, usual_windows
from vsscli.models.plain_vit.tensors import Grid
from vsscli.models.plain_vit.trunk import (
    Trunk,
    build_trunk,
    embed,
    heads_of,
    put_before,
    rescale_positions,
    run_block,
)
from vsscli.models.plain_vit.weights import TRUNK, load_start, trunk_digest
from vsscli.models.scores import Scores
from vsscli.models.weights import normalisation_for
from vsscli.talk import SILENCE, Talk


class PlainVit(VideoNetwork):
    """A ViT that classifies masks.

    Queries are put in front of all other tokens. There is a prediction before each block that they pass through and one
    after the last; in training each of the former limits what its block lets queries see, at test there is the last
    prediction alone and no limit.
    """

    def __init__(self, config: PlainVitModel, num_classes: int) -> None:
        full, patch = config.readout == "full", config.patch
        stride = 1 if full else patch // 2 ** doublings(patch)
        super().__init__(num_classes, stride, patch, normalisation_for(config.backbone))
        self.crop, self._full, self._checkpointing = config.fixed_crop, full, config.checkpointing
        self.frames, self._published = config.clip, config.variant == "published"
        self._normed = config.clip == 1 or config.handed == "normed"
        self.trunk: Trunk = build_trunk(config)
        rescale_positions(self.trunk, config.rescale)
        width, depth, heads = self.trunk.embed_dim, len(self.trunk.blocks), heads_of(self.trunk)
        if width // heads % 4 and (config.queries == "decoder" or getattr(self.trunk, "rope", None) is not None):
            raise VssError(
                f"{heads} heads over a width of {width} have {width // heads} channels each, and rotary positions take "
                "multiples of 4",
                "choose other sizes.width or sizes.heads",
            )
        self.feature_channels = width
        self.prefix = self.trunk.num_prefix_tokens
        self.queries = nn.Embedding(config.num_queries, width)
        self.updater = nn.Linear(width, width) if config.clip > 1 else None
        blocks = config.shared_blocks(depth)
        self.laterals: Laterals | None = None
        self.decoder: Decoder | None = None
        if config.queries == "decoder":
            self.taps = config.taps or usual_taps(depth)
            _require_taps(self.taps, depth)
            prefix = config.num_queries + self.prefix
            self.laterals = Laterals(width, len(self.taps))
            self.decoder = Decoder(width, heads, config.hidden or width, blocks, prefix, config.rescale)
            self.trunk.requires_grad_(False).eval()
            setattr(self.trunk, NEVER_LEARNS, True)
        else:
            if blocks > depth:
                raise VssError(f"blocks: {blocks} of a trunk of {depth} can't see queries", f"{depth} at most")
            for block in self.trunk.blocks[depth - blocks :]:
                put_before(block, config.num_queries)
        self._apart = depth - blocks if self.decoder is None else depth  # blocks without queries
        self._full_rate = blocks if config.full_rate_blocks else 0
        windows = config.annealing or usual_windows(blocks)
        if len(windows) != blocks:
            raise VssError(f"annealing: {len(windows)} windows are not those of {blocks} blocks", "give one for each")
        self.masked_attention = MaskedAttention(windows)
        self.head = QueryHead(width, num_classes, patch)
        if config.compile:
            for part in (*self.trunk.blocks, *(self.decoder.blocks if self.decoder else ()), self.head):
                part.compile()

    def forward(self, images: Tensor) -> Scores:
        """Score normalised images (B, 3, H, W), first frames if it takes clips: mask scores (B, C, H / stride, W /
        stride)."""
        return self.predict(images, masked=False, every_layer=False).scores

    def outputs(self, images: Tensor) -> MaskOutputs:
        """Predictions for images (B, 3, H, W), in training before each block with queries too; features (B, D, H / 4, W
        / 4).

        Images are independent, and in training queries see their masks; or they are clips of ``frames`` images each,
        one after another, without masked attention.
        """
        return self.outputs_from(images, None)

    def outputs_from(self, images: Tensor, seen: Seen | None) -> MaskOutputs:
        masked = self.training and self.frames == 1
        return self.predict(images, masked=masked, every_layer=self.training, frames=self.frames, seen=seen)

    @property
    def shares(self) -> bool:
        """Not where training rescales the trunk's own positions: a teacher has them as they are."""
        return self.decoder is not None and not getattr(getattr(self.trunk, "rope", None), "aug_active", False)

    def follow(self, images: Tensor, handed: Tensor | None = None) -> tuple[MaskOutputs, Tensor]:
        """Predictions for the next frame (B, 3, H, W) of some videos, and the queries (B, Q, D) of the frame after it.

        ``handed`` are the queries that the frame before gave; None: it is the first.
        """
        tokens, positions, grid = self._tokens(images)
        queries = self._first(tokens) if handed is None else handed
        layers, features, last = self._through(queries, tokens, positions, grid)
        return self._outputs(images, layers, features), self._next(last)

    def predict(
        self, images: Tensor, *, masked: bool, every_layer: bool, frames: int = 1, seen: Seen | None = None
    ) -> MaskOutputs:
        """Predictions for images (B, 3, H, W).

        Parameters
        ----------
        images
            Normalised, of a size that the network takes.
        masked
            Limit queries to their masks, with the probabilities that training has come to (1 before it begins).
        every_layer
            Give the predictions before each block too.
        frames
            The images are clips of so many, one after another, whose queries are handed on.
        seen
            What the frozen trunk makes of the images, if it is known.
        """
        if len(images) % frames:
            raise VssError(
                f"{len(images)} images are not clips of {frames} frames", "give whole clips, or set model.clip"
            )
        tokens, positions, grid = self._tokens(images, seen)
        clips = tokens.unflatten(0, (-1, frames))
        queries = self._first(clips)
        predicted: list[list[QueryPrediction]] = []
        features: list[Tensor] = []
        for number, frame in enumerate(clips.unbind(1)):
            if number:
                queries = self._next(queries)
            layers, map_, queries = self._through(
                queries, frame, positions, grid, masked=masked, every_layer=every_layer
            )
            predicted.append(layers)
            features.append(map_)
        joined = [_joined(layer) for layer in zip(*predicted, strict=True)]
        return self._outputs(images, joined, _in_turn(features), frames)

    def at_progress(self, fraction: float) -> None:
        self.masked_attention.at_progress(fraction)

    def place_of(self, name: str) -> tuple[bool, int]:
        """The last block lies at depth 0, as the last norm and all that is not of the trunk; embeddings lie as deep as
        the first block (specs: eomt.md, Optimiser). As published for clips over DINOv3, the last norm does so too
        (specs: videomt.md, trap 4)."""
        part, _, rest = name.partition(".")
        if part != "trunk":
            return False, 0
        if rest.startswith(("norm.", "fc_norm.")) and not (self._published and self.trunk.pos_embed is None):
            return True, 0
        number = int(rest.split(".")[1]) if rest.startswith("blocks.") else 0
        depth = len(self.trunk.blocks) - 1 - number
        return True, 0 if depth < self._full_rate else depth

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Weight decay applies to every parameter, as published: norms, biases and queries too."""
        return True

    def kept_state(self) -> dict[str, Tensor]:
        state = self.state_dict()
        return {name: state[name] for name in state if not (self.trunk_digest and name.startswith(TRUNK))}

    def train(self, mode: bool = True) -> PlainVit:
        """Switch to training or evaluation, but of a frozen trunk only its positions, which training may rescale."""
        super().train(mode)
        if self.decoder is not None:
            self.trunk.eval()
            if (positions := getattr(self.trunk, "rope", None)) is not None:
                positions.train(mode)
        return self

    @torch.no_grad()
    def see(self, images: Tensor) -> Seen:
        tokens, positions = embed(self.trunk, images)
        taps = []
        for number, block in enumerate(self.trunk.blocks[: self.taps[-1] + 1]):
            tokens = run_block(block, tokens, positions)
            if number in self.taps:
                taps.append(self.trunk.norm(tokens))
        return Seen(tuple(taps), positions)

    def _tokens(self, images: Tensor, seen: Seen | None = None) -> tuple[Tensor, Tensor | None, Grid]:
        """Tokens (B, prefix + N, D) that the queries join, the rotary positions of the patches, and their grid."""
        self.check_sides(images)
        grid = (images.shape[-2] // self.divisor, images.shape[-1] // self.divisor)
        if self.laterals is None or self.decoder is None:
            tokens, positions = embed(self.trunk, images)
            for block in self.trunk.blocks[: self._apart]:
                tokens = self._run(run_block, block, tokens, positions)
            return self.between(tokens, dim=-1), positions, grid
        taps, positions = self.see(images) if seen is None else seen
        tokens = self.laterals([self.between(tap, dim=-1) for tap in taps])
        return tokens, self.decoder.positions(grid) if positions is None else positions, grid

    def _first(self, tokens: Tensor) -> Tensor:
        """The queries (B, Q, D) of first frames."""
        return self.queries.weight.expand(len(tokens), -1, -1).to(tokens.dtype)

    def _next(self, last: Tensor) -> Tensor:
        """The queries of the next frame, (B, Q, D), from those behind the last block of this one."""
        assert self.updater is not None
        updated: Tensor = self.updater(last)
        return updated + self.queries.weight.to(last.dtype)

    def _through(
        self,
        queries: Tensor,
        tokens: Tensor,
        positions: Tensor | None,
        grid: Grid,
        *,
        masked: bool = False,
        every_layer: bool = False,
    ) -> tuple[list[QueryPrediction], Tensor, Tensor]:
        """Pass queries (B, Q, D) and tokens through the blocks that they share: the predictions, the last one's
        features, and the queries that can be handed on."""
        blocks, norm = self.trunk.blocks[self._apart :], self.trunk.norm
        if self.decoder is not None:
            blocks, norm = self.decoder.blocks, self.decoder.norm
        early = norm if self._normed else nn.Identity()
        tokens = torch.cat([queries, tokens], dim=1)
        layers: list[QueryPrediction] = []
        for number, block in enumerate(blocks):
            allowed = None
            if masked or every_layer:
                prediction, _ = self._run(self._predict, early, tokens, grid)
                layers.append(prediction)
                if masked:
                    allowed = self.masked_attention(number, prediction.mask_logits, grid, self.prefix)
            tokens = self._run(run_block, block, tokens, positions, allowed)
        prediction, features = self._run(self._predict, norm, tokens, grid)
        last = early(tokens[:, : queries.shape[1]])
        return [*layers, prediction] if every_layer else [prediction], features, last

    def _predict(self, norm: nn.Module, tokens: Tensor, grid: Grid) -> tuple[QueryPrediction, Tensor]:
        normed = norm(tokens)
        count = self.queries.num_embeddings
        patches = normed[:, count + self.prefix :].transpose(1, 2).unflatten(2, grid)
        return self.head(normed[:, :count], patches)

    def _outputs(self, images: Tensor, layers: list[QueryPrediction], features: Tensor, frames: int = 1) -> MaskOutputs:
        size = (images.shape[-2], images.shape[-1]) if self._full else None
        return MaskOutputs(tuple(layers), features, size, Clip(frames, self._published))

    def _run(self, function: Callable[..., Any], *inputs: Any) -> Any:
        if self._checkpointing and torch.is_grad_enabled():
            return checkpoint(function, *inputs, use_reentrant=False)
        return function(*inputs)


def _joined(frames: Sequence[QueryPrediction]) -> QueryPrediction:
    return QueryPrediction(*(_in_turn(list(parts)) for parts in zip(*frames, strict=True)))


def _in_turn(frames: Sequence[Tensor]) -> Tensor:
    """Frames of several clips, (B, ...) each, clip by clip."""
    return frames[0] if len(frames) == 1 else torch.stack(tuple(frames), dim=1).flatten(0, 1)


def build_plain_vit(config: PlainVitModel, num_classes: int, load_pretrained: bool, talk: Talk = SILENCE) -> PlainVit:
    """Build a network, with the weights that its configuration names if ``load_pretrained``, those of a frozen trunk in
    any case: no checkpoint brings them."""
    network = PlainVit(config, num_classes)
    if not config.random and (load_pretrained or config.frozen):
        loaded, network.licence = load_start(network, network.trunk, config, talk)
        network.note_loaded(loaded)
        if config.frozen:
            network.trunk_digest = trunk_digest(network.trunk.state_dict())
    elif load_pretrained:
        network.note_loaded(())
        network.licence = RANDOM
    return network


def _require_taps(taps: tuple[int, ...], depth: int) -> None:
    if list(taps) != sorted(set(taps)) or taps[0] < 0 or taps[-1] >= depth:
        raise VssError(
            f"taps: {list(taps)} are not different blocks of 0 to {depth - 1}, in order",
            "[5, 11, 17, 23] are usual for 24 blocks",
        )
