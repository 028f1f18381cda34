"""One continuous-batching replica as pure code: what enters each step, and what leaves it.

The policy is that of vLLM V1. Running sequences go first, in order of admission, so decodes (one
token each) are served before prompts; a prompt longer than what is left of the step's token budget
is cut into chunks; waiting requests are admitted first come first served while there is a slot and
KV room for their whole prompt; when a decode finds no KV block, the sequence admitted last is
preempted: it drops its KV, returns to the head of the queue and recomputes everything it knew.

Time is an argument (seconds of any monotonic clock); the duration of a step is the caller's
business: `StepWork` carries what the step law of theory.md section 3 asks for.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

BLOCK_TOKENS = 16  # vLLM's KV block on GPUs


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What the engine can hold: sequences, tokens of KV memory, tokens a step."""

    slots: int
    kv_capacity_tokens: int
    step_budget_tokens: int

    def __post_init__(self) -> None:
        for name in ("slots", "kv_capacity_tokens", "step_budget_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.slots > self.step_budget_tokens:
            raise ValueError(
                f"a step of {self.step_budget_tokens} tokens cannot decode {self.slots} sequences: "
                f"lower slots or raise step_budget_tokens"
            )


@dataclass(frozen=True, slots=True)
class StepWork:
    """One step in the variables of the step law: P, B, S (token pairs) and KV (context tokens)."""

    prefill_tokens: int
    decoding: int
    prefill_token_pairs: float
    kv_tokens: int

    @property
    def tokens(self) -> int:
        """Tokens computed by the step."""
        return self.prefill_tokens + self.decoding


@dataclass(slots=True, eq=False)
class Sequence:
    """One request on its way through the engine; times are None until they happened."""

    input_tokens: int
    output_tokens: int
    arrived_at: float
    admitted_at: float | None = None
    first_token_at: float | None = None
    last_token_at: float | None = None
    previous_token_at: float | None = None
    generated_tokens: int = 0
    computed_tokens: int = 0  # tokens whose KV is held
    blocks: int = 0
    preemptions: int = 0
    chunk_tokens: int = 0  # computed by the step in progress
    dropped: bool = False

    @property
    def known_tokens(self) -> int:
        """Prompt plus what was generated: what must be computed before the next token."""
        return self.input_tokens + self.generated_tokens

    @property
    def finished(self) -> bool:
        """Whether the last token was generated."""
        return self.generated_tokens >= self.output_tokens


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step produced: sequences with one token more, those of them now complete."""

    emitted: list[Sequence]
    finished: list[Sequence]
    preemptions: int  # while the step was put together


class DoesNotFitError(ValueError):
    """A request that could never be served, even alone."""


class BatchLoop:
    """The scheduler of one replica: `submit`, then `begin_step` and `finish_step` in turns."""

    def __init__(self, limits: EngineLimits) -> None:
        self.limits = limits
        self._preemptions = 0  # of the step in progress
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._scheduled: list[Sequence] = []
        self._total_blocks = limits.kv_capacity_tokens // BLOCK_TOKENS
        self._free_blocks = self._total_blocks

    def submit(self, *, input_tokens: int, output_tokens: int, arrived_at: float) -> Sequence:
        """Queue a request; it is admitted by a step that begins at or after `arrived_at`.

        Requests must be submitted in the order of `arrived_at`. Raises `DoesNotFitError` when prompt
        and output together exceed the KV memory: preemption could never make room for it.
        """
        if input_tokens < 1 or output_tokens < 1:
            raise DoesNotFitError("a request needs at least one prompt token and one output token")
        if _blocks_for(input_tokens + output_tokens) > self._total_blocks:
            raise DoesNotFitError(
                f"{input_tokens} prompt + {output_tokens} output tokens exceed the KV memory of "
                f"{self._total_blocks * BLOCK_TOKENS} tokens"
            )
        sequence = Sequence(input_tokens, output_tokens, arrived_at)
        self._waiting.append(sequence)
        return sequence

    def drop(self, sequence: Sequence) -> None:
        """Forget a request whose client is gone, wherever it is."""
        if sequence.dropped or sequence.finished:
            return
        sequence.dropped = True
        if sequence in self._running:
            self._running.remove(sequence)
            self._release(sequence)
        else:
            self._waiting.remove(sequence)

    def begin_step(self, now: float) -> StepWork | None:
        """Choose the work of a step that begins at `now`; None when there is nothing to do."""
        self._preemptions = 0
        budget = self._schedule_running()
        if not self._preemptions:  # vLLM does the same: what was just pushed out must not come straight back
            self._admit(budget, now)
        if not self._scheduled:
            return None
        prefill_tokens = decoding = kv_tokens = 0
        pairs = 0.0
        for sequence in self._scheduled:
            chunk = sequence.chunk_tokens
            if chunk == 1 and sequence.generated_tokens:
                decoding += 1
                kv_tokens += sequence.computed_tokens
            else:
                prefill_tokens += chunk
                pairs += chunk * (sequence.computed_tokens + chunk / 2)
        return StepWork(prefill_tokens, decoding, pairs, kv_tokens)

    def finish_step(self, now: float) -> StepResult:
        """Account for the step in progress, whose tokens leave at `now`."""
        emitted: list[Sequence] = []
        finished: list[Sequence] = []
        for sequence in self._scheduled:
            if sequence.dropped:
                continue
            sequence.computed_tokens += sequence.chunk_tokens
            if sequence.computed_tokens < sequence.known_tokens:
                continue  # a chunk of a long prompt: no token yet
            sequence.generated_tokens += 1
            sequence.previous_token_at, sequence.last_token_at = sequence.last_token_at, now
            if sequence.first_token_at is None:
                sequence.first_token_at = now
            emitted.append(sequence)
            if sequence.finished:
                finished.append(sequence)
        self._scheduled = []
        if finished:
            self._running = [sequence for sequence in self._running if not sequence.finished]
            for sequence in finished:
                self._release(sequence)
        return StepResult(emitted, finished, self._preemptions)

    def next_arrival(self) -> float | None:
        """Return when the head of the queue arrives or arrived; None when nobody waits."""
        return self._waiting[0].arrived_at if self._waiting else None

    def waiting_count(self, now: float) -> int:
        """Return how many have arrived by `now` and are not admitted."""
        waiting = len(self._waiting)
        for sequence in reversed(self._waiting):
            if sequence.arrived_at <= now:
                break
            waiting -= 1
        return waiting

    @property
    def running_count(self) -> int:
        """Admitted sequences."""
        return len(self._running)

    @property
    def kv_usage_ratio(self) -> float:
        """Share of the KV blocks in use."""
        return 1 - self._free_blocks / self._total_blocks

    def _schedule_running(self) -> int:
        budget = self.limits.step_budget_tokens
        index = 0
        while index < len(self._running) and budget > 0:
            sequence = self._running[index]
            chunk = min(sequence.known_tokens - sequence.computed_tokens, budget)
            while not self._reserve(sequence, sequence.computed_tokens + chunk):
                victim = self._running.pop()
                self._preempt(victim)
                if victim is sequence:
                    return budget
            sequence.chunk_tokens = chunk
            self._scheduled.append(sequence)
            budget -= chunk
            index += 1
        return budget

    def _admit(self, budget: int, now: float) -> None:
        while self._waiting and budget > 0 and len(self._running) < self.limits.slots:
            sequence = self._waiting[0]
            if sequence.arrived_at > now or not self._reserve(sequence, sequence.known_tokens):
                return
            self._waiting.popleft()
            if sequence.admitted_at is None:
                sequence.admitted_at = now
            sequence.chunk_tokens = min(sequence.known_tokens, budget)
            budget -= sequence.chunk_tokens
            self._running.append(sequence)
            self._scheduled.append(sequence)

    def _reserve(self, sequence: Sequence, tokens: int) -> bool:
        needed = _blocks_for(tokens) - sequence.blocks
        if needed > self._free_blocks:
            return False
        if needed > 0:
            sequence.blocks += needed
            self._free_blocks -= needed
        return True

    def _release(self, sequence: Sequence) -> None:
        self._free_blocks += sequence.blocks
        sequence.blocks = 0

    def _preempt(self, sequence: Sequence) -> None:
        self._release(sequence)
        sequence.computed_tokens = 0
        sequence.preemptions += 1
        self._preemptions += 1
        self._waiting.appendleft(sequence)


def _blocks_for(tokens: int) -> int:
    return -(-tokens // BLOCK_TOKENS)
