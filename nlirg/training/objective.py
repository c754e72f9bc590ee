"""The weighted loss of some windows: grouping, cached prefixes, the teacher."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig

from nlirg.config.training import TrainConfig
from nlirg.errors import InputError
from nlirg.forward.batching import Row, TokenBatch, by_length, token_batch
from nlirg.forward.cached_context import ContextCache, check_cacheable
from nlirg.forward.loss import TokenLoss, TokenTargets
from nlirg.forward.output_head import Head
from nlirg.weighting.weightings import UniformWeighting, Weighting

if TYPE_CHECKING:
    from nlirg.training.engine import Engine

# What one more forward costs, in tokens: on a GPU its launches, on a CPU the gradients of embedding
# and output head, which are as large for a few tokens as for many.
FORWARD_OVERHEAD = {"cpu": 96}
GPU_FORWARD_OVERHEAD = 4096


@dataclass(frozen=True)
class WindowsLoss:
    """Loss of the windows of one micro-batch.

    Attributes:
        tokens: losses and weights of their trained tokens.
        tasks: int64 [n] task type of each, on the CPU.
        sources: int64 [n] source of each, on the CPU.
        processed: input tokens computed.
        padded: the same with padding.
    """

    tokens: TokenLoss
    tasks: Tensor
    sources: Tensor
    processed: int
    padded: int

    def detached(self) -> WindowsLoss:
        """Return the same numbers without the graph behind them."""
        tokens = self.tokens._replace(objective=self.tokens.objective.detach())
        return replace(self, tokens=tokens)


class Objective:
    """Computes the loss of windows on one rank.

    Args:
        engine: runs the model.
        config: settings of the run.

    Raises:
        InputError: if the model cannot take a short gradient context.
    """

    def __init__(self, engine: Engine, config: TrainConfig) -> None:
        self._engine, self._config = engine, config
        # Only FlashAttention takes rows of any length one after the other without a mask.
        flash = engine.model_config._attn_implementation == "flash_attention_2"
        self._flat = flash and keeps_documents_apart(engine)
        self.cache: ContextCache | None = None
        if isinstance(config.gradient_context, int):
            check_cacheable(engine.model_config)
            self.cache = ContextCache(config.gradient_context)

    def loss(self, rows: Sequence[Row], scale: float) -> WindowsLoss:
        """Compute the weighted loss of a micro-batch times `scale`, to be differentiated.

        Without rows it trains nothing, but takes the same part in the collectives of a sharded
        model as one that does.
        """
        if self.cache is None:
            return self.full_context(rows, scale)
        cache = self.cache
        return merged([self._cached(cache, part, scale, own) for part, own in self._kinds(rows)])

    def full_context(self, rows: Sequence[Row], scale: float) -> WindowsLoss:
        """Compute the same with the whole prefix in the gradient, whatever the settings say."""
        return merged(
            [
                self._full(group, scale, own)
                for part, own in self._kinds(rows)
                for group in self._groups(part)
            ]
        )

    @torch.no_grad()
    def token_losses(self, rows: Sequence[Row]) -> Tensor:
        """Compute the unweighted losses [n] of the windows' tokens, in nats, without gradient."""
        batch = token_batch(rows, self._flat).to(self._engine.device)
        targets = TokenTargets(batch.targets, UniformWeighting())
        return self._engine.model.loss(batch, targets).loss

    @torch.no_grad()
    def divergence(self, rows: Sequence[Row], base: Head | None) -> tuple[Tensor, Head]:
        """Add up KL(base || model) over the windows' tokens, in nats, without gradient.

        Args:
            rows: windows of whole samples.
            base: what an earlier call with these rows has returned of the base model.
        """
        batch = token_batch(rows, self._flat).to(self._engine.device)
        base = base or self._engine.base_head(batch)
        targets = replace(TokenTargets(batch.targets, UniformWeighting()), **_divergence_from(base))
        return self._engine.model.loss(batch, targets).objective, base

    def _kinds(self, rows: Sequence[Row]) -> Iterator[tuple[Sequence[Row], bool]]:
        """Yield rows of the corpus, and apart from them replay that is trained in its own way."""
        replay = self._config.replay
        if replay is None or (replay.weighted and replay.objective == "ce"):
            yield rows, False
            return
        parts = [[row for row in rows if row.sample.replayed is own] for own in (False, True)]
        for own, part in zip((False, True), parts, strict=True):
            # Ranks of a sharded model must do the same number of forwards.
            if part or self._engine.lockstep or not (rows or own):
                yield part, own

    def _groups(self, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
        # Ranks of a sharded model must do the same number of forwards.
        if self._engine.lockstep or self._flat or not rows:
            yield rows
            return
        overhead = FORWARD_OVERHEAD.get(self._engine.device.type, GPU_FORWARD_OVERHEAD)
        yield from by_length(rows, overhead)

    def _full(self, rows: Sequence[Row], scale: float, own: bool) -> WindowsLoss:
        batch = token_batch(rows, self._flat).to(self._engine.device)
        loss = self._engine.model.loss(batch, self._targets(batch, scale, batch, own))
        return _counted(loss, batch)

    def _cached(
        self, cache: ContextCache, rows: Sequence[Row], scale: float, own: bool
    ) -> WindowsLoss:
        unread = cache.unread(rows)
        if unread or self._engine.lockstep:
            self._read(cache, unread)
        cut = [row.starting(cache.edge(row)) for row in rows]
        past, inputs = self._past(cache, cut)
        batch = token_batch(cut).to(self._engine.device)
        whole = None
        if self._engine.teacher is not None or (own and self._config.replays_divergence):
            # It is never trained, so nothing of it is cached: it reads the whole prefix.
            whole = token_batch([row.whole() for row in rows])
        targets = self._targets(batch, scale, whole, own)
        loss = self._engine.model.loss(batch, targets, **inputs)
        cache.extend(cut, past)
        counted = _counted(loss, batch)
        read = sum(row.length for row in unread)
        return replace(counted, processed=counted.processed + read, padded=counted.padded + read)

    @torch.no_grad()
    def _read(self, cache: ContextCache, rows: Sequence[Row]) -> None:
        """Compute keys and values of a prefix that no gradient flows through."""
        past, inputs = self._past(cache, rows)
        self._engine.model.head(token_batch(rows).to(self._engine.device), **inputs)
        cache.extend(rows, past)

    def _past(
        self, cache: ContextCache, rows: Sequence[Row]
    ) -> tuple[DynamicCache, dict[str, Any]]:
        """Return the cached prefixes of rows, and with them the model's further inputs."""
        past, inputs = cache.inputs(rows)
        moved = {name: tensor.to(self._engine.device) for name, tensor in inputs.items()}
        return past, {"past_key_values": past, "use_cache": True, **moved}

    def _targets(
        self, batch: TokenBatch, scale: float, teacher_reads: TokenBatch | None, own: bool
    ) -> TokenTargets:
        """Return a batch's targets.

        Args:
            batch: of one kind of rows.
            scale: see `loss`.
            teacher_reads: the same windows with whole prefixes.
            own: whether they are the base model's own answers, which have weight 1 and teach its
                distributions, as the settings say.
        """
        config, teacher = self._config, self._engine.teacher
        weighting: Weighting = config.weighting
        if own and config.replay is not None and not config.replay.weighted:
            weighting = UniformWeighting()
        targets = TokenTargets(
            batch.targets, weighting, batch.base_loss, batch.windows, scale=scale
        )
        if teacher_reads is None:
            return targets
        if own and config.replays_divergence:
            base = self._engine.base_head(teacher_reads.to(self._engine.device))
            return replace(targets, **_divergence_from(base))
        if config.distillation is None or teacher is None or own:
            return targets
        return replace(
            targets,
            teacher=teacher.head(teacher_reads.to(teacher.device)),
            label_share=config.distillation.label_share,
        )


def _divergence_from(base: Head) -> dict[str, Any]:
    """Return the targets' fields that make the objective KL(base || model)."""
    return {"teacher": base, "label_share": 0.0, "divergence": True}


def check_packable(config: PretrainedConfig, train: TrainConfig) -> None:
    """Refuse packed documents where they could not be kept apart.

    Raises:
        InputError: for a cached prefix, which is one document's, and for layers that carry a state
            from one into the next.
    """
    if train.gradient_context != "full":
        raise InputError(
            f"train.gradient_context {train.gradient_context} cannot keep packed documents apart: "
            "set it to full for encode.task cpt"
        )
    kinds = set(getattr(config.get_text_config(), "layer_types", None) or [])
    if other := sorted(kinds - {"full_attention", "sliding_attention", "chunked_attention"}):
        raise InputError(
            f"encode.task cpt: the model has {', '.join(other)} layers, which would leak from one "
            "packed document into the next"
        )


def keeps_documents_apart(engine: Engine) -> bool:
    """Say whether rows may be laid one after the other; every rank must call this."""
    with engine.evaluating():
        return engine.model.keeps_apart(engine.device)


def _counted(loss: TokenLoss, batch: TokenBatch) -> WindowsLoss:
    return WindowsLoss(loss, batch.tasks, batch.sources, batch.tokens, batch.padded_tokens)


def merged(parts: Sequence[WindowsLoss]) -> WindowsLoss:
    """Join several batches' losses as those of one."""
    if len(parts) == 1:
        return parts[0]
    sums, losses, weights = zip(*(part.tokens for part in parts), strict=True)
    return WindowsLoss(
        TokenLoss(torch.stack(sums).sum(), torch.cat(losses), torch.cat(weights)),
        torch.cat([part.tasks for part in parts]),
        torch.cat([part.sources for part in parts]),
        sum(part.processed for part in parts),
        sum(part.padded for part in parts),
    )
