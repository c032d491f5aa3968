"""Queries in a plain ViT: EoMT (Kerssies et al. 2025, arXiv:2503.19108), where they pass through its last blocks, and
PMT (arXiv:2603.25398), where they pass through a decoder over a frozen one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vsscli.errors import VssError
from vsscli.models.frozen import NEVER_LEARNS
from vsscli.models.network import Network
from vsscli.models.outputs import MaskOutputs, QueryPrediction
from vsscli.models.plain_vit.config import PlainVitModel
from vsscli.models.plain_vit.decoder import Decoder, Laterals
from vsscli.models.plain_vit.head import QueryHead, doublings
from vsscli.models.plain_vit.masking import MaskedAttention, usual_windows
from vsscli.models.plain_vit.trunk import Trunk, build_trunk, embed, heads_of, put_before, run_block
from vsscli.models.plain_vit.weights import TRUNK, load_start, trunk_digest
from vsscli.models.scores import Scores
from vsscli.models.weights import normalisation_for
from vsscli.talk import SILENCE, Talk

DECODER_BLOCKS = 6
TAPS = 4


class PlainVit(Network):
    """A ViT that classifies masks.

    Queries are put in front of all other tokens. There is a prediction before each block that they pass through and one
    after the last; in training each of the former limits what its block lets queries see, at test there is the last
    prediction alone and no limit.
    """

    def __init__(self, config: PlainVitModel, num_classes: int) -> None:
        full, patch = config.readout == "full", config.patch
        stride = 1 if full else patch // 2 ** doublings(patch)
        super().__init__(num_classes, stride, patch, normalisation_for(config.backbone, config.pretrained))
        self.crop, self._full, self._checkpointing = config.fixed_crop, full, config.checkpointing
        self.trunk: Trunk = build_trunk(config)
        width, depth = self.trunk.embed_dim, len(self.trunk.blocks)
        self.feature_channels = width
        self.prefix = self.trunk.num_prefix_tokens
        self.queries = nn.Embedding(config.num_queries, width)
        self.laterals: Laterals | None = None
        self.decoder: Decoder | None = None
        if config.queries == "decoder":
            self.taps = config.taps or tuple((tap + 1) * depth // TAPS - 1 for tap in range(TAPS))
            _require_taps(self.taps, depth)
            blocks, heads = config.blocks or DECODER_BLOCKS, heads_of(self.trunk)
            prefix = config.num_queries + self.prefix
            self.laterals = Laterals(width, len(self.taps))
            self.decoder = Decoder(width, heads, config.hidden or width, blocks, prefix, config.rescale)
            self.trunk.requires_grad_(False).eval()
            setattr(self.trunk, NEVER_LEARNS, True)
        else:
            blocks = config.blocks or usual_blocks(depth)
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
        """Score normalised images (B, 3, H, W): mask scores (B, C, H / stride, W / stride)."""
        return self.predict(images, masked=False, every_layer=False).scores

    def outputs(self, images: Tensor) -> MaskOutputs:
        """Predictions for images (B, 3, H, W), in training with masked attention and before each block with queries;
        features (B, D, H / 4, W / 4)."""
        return self.predict(images, masked=self.training, every_layer=self.training)

    def predict(self, images: Tensor, *, masked: bool, every_layer: bool) -> MaskOutputs:
        """Predictions for images (B, 3, H, W).

        Parameters
        ----------
        images
            Normalised, of a size that the network takes.
        masked
            Limit queries to their masks, with the probabilities that training has come to (1 before it begins).
        every_layer
            Give the predictions before each block too.
        """
        self.check_sides(images)
        grid = (images.shape[-2] // self.divisor, images.shape[-1] // self.divisor)
        tokens, positions = self._tokens(images, grid)
        blocks, norm = self.trunk.blocks[self._apart :], self.trunk.norm
        if self.decoder is not None:
            blocks, norm = self.decoder.blocks, self.decoder.norm
        queries = self.queries.weight.expand(len(tokens), -1, -1)
        tokens = torch.cat([queries.to(tokens.dtype), tokens], dim=1)
        layers: list[QueryPrediction] = []
        for number, block in enumerate(blocks):
            allowed = None
            if masked or every_layer:
                prediction, _ = self._run(self._predict, norm, tokens, grid)
                layers.append(prediction)
                if masked:
                    allowed = self.masked_attention(number, prediction.mask_logits, grid, self.prefix)
            tokens = self._run(run_block, block, tokens, positions, allowed)
        prediction, features = self._run(self._predict, norm, tokens, grid)
        size = (images.shape[-2], images.shape[-1]) if self._full else None
        return MaskOutputs((*layers, prediction) if every_layer else (prediction,), features, size)

    def at_progress(self, fraction: float) -> None:
        self.masked_attention.at_progress(fraction)

    def place_of(self, name: str) -> tuple[bool, int]:
        """The last block lies at depth 0, as the last norm and all that is not of the trunk; embeddings lie as deep as
        the first block (specs: eomt.md, Optimiser)."""
        part, _, rest = name.partition(".")
        if part != "trunk":
            return False, 0
        if rest.startswith(("norm.", "fc_norm.")):
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
        """Switch to training or evaluation, but for a frozen trunk."""
        super().train(mode)
        if self.decoder is not None:
            self.trunk.eval()
        return self

    def _tokens(self, images: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, prefix + N, D) that the queries join, and the rotary positions of the patches."""
        if self.laterals is None or self.decoder is None:
            tokens, positions = embed(self.trunk, images)
            for block in self.trunk.blocks[: self._apart]:
                tokens = self._run(run_block, block, tokens, positions)
            return tokens, positions
        taps = []
        with torch.no_grad():
            tokens, positions = embed(self.trunk, images)
            for number, block in enumerate(self.trunk.blocks[: self.taps[-1] + 1]):
                tokens = run_block(block, tokens, positions)
                if number in self.taps:
                    taps.append(self.trunk.norm(tokens))
        return self.laterals(taps), self.decoder.positions(grid) if positions is None else positions

    def _predict(self, norm: nn.Module, tokens: Tensor, grid: tuple[int, int]) -> tuple[QueryPrediction, Tensor]:
        normed = norm(tokens)
        count = self.queries.num_embeddings
        patches = normed[:, count + self.prefix :].transpose(1, 2).unflatten(2, grid)
        return self.head(normed[:, :count], patches)

    def _run(self, function: Callable[..., Any], *inputs: Any) -> Any:
        if self._checkpointing and torch.is_grad_enabled():
            return checkpoint(function, *inputs, use_reentrant=False)
        return function(*inputs)


def build_plain_vit(config: PlainVitModel, num_classes: int, load_pretrained: bool, talk: Talk = SILENCE) -> PlainVit:
    """Build a network, with the weights that its configuration names if ``load_pretrained``, those of a frozen trunk in
    any case: no checkpoint brings them."""
    network = PlainVit(config, num_classes)
    if not config.random and (load_pretrained or config.frozen):
        loaded = load_start(network, network.trunk, config, talk)
        network.note_loaded(loaded)
        if config.frozen:
            network.trunk_digest = trunk_digest(network.trunk.state_dict())
    elif load_pretrained:
        network.note_loaded(())
    return network


def usual_blocks(depth: int) -> int:
    """How many of the last blocks see queries, as published: of 12 blocks 3, of 24 4, of 40 5."""
    return min(depth, 3 if depth <= 12 else 4 if depth <= 32 else 5)


def _require_taps(taps: tuple[int, ...], depth: int) -> None:
    if list(taps) != sorted(set(taps)) or taps[0] < 0 or taps[-1] >= depth:
        raise VssError(
            f"taps: {list(taps)} are not different blocks of 0 to {depth - 1}, in order",
            "[5, 11, 17, 23] are usual for 24 blocks",
        )
