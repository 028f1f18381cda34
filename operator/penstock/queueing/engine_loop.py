"""The loop of one continuous-batching engine, replayed at the cost of its events instead of its tokens.

Decodes first, chunked prefill, first come first served with KV room, the last admitted preempted. A
sequence is touched when it enters and when it leaves: which step makes its last token is known on entry.
Steps between two events differ only by the context that grows by B tokens a step, so a stretch of m of
them lasts m d + e B m (m-1)/2 seconds and is cut at a step's end when a request arrives in it.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field

from penstock.queueing.engine_profile import EngineProfile

GONE = -2
_WAITING = -1
# KV memory is handed out in blocks of 16 tokens: of each sequence half a block is empty on average.
_HALF_BLOCK = 8


@dataclass(slots=True)
class Requests:
    """What is asked and what happened, by request number; times are NaN until they happen."""

    prompt: list[int]
    output: list[int]
    first: list[float]
    last: list[float]
    made: list[int]  # output tokens it had when it entered the batch (again)
    entered: list[int]  # step that made the first token of this stay
    leaves: list[int]  # step that makes the last; negative while not decoding

    @classmethod
    def of(cls, prompts: list[int], outputs: list[int]) -> Requests:
        """Return requests that have not arrived yet."""
        count = len(prompts)
        nowhere = [math.nan] * count
        return cls(prompts, outputs, nowhere, nowhere.copy(), [0] * count, [0] * count, [_WAITING] * count)

    def known(self, request: int) -> int:
        """Return the tokens that must be computed before the next: prompt and what was generated."""
        return self.prompt[request] + self.made[request]


@dataclass(slots=True)
class EngineLoop:
    """One replica between events. `ends` is when the work in progress ends; inf while it sleeps."""

    profile: EngineProfile
    requests: Requests
    slots: int
    ends: float = math.inf
    present: int = 0  # waiting and running: what a balancer counts
    running: int = 0
    busy_seconds: float = 0.0
    _waiting: deque[int] = field(default_factory=deque)
    _admitted: list[int] = field(default_factory=list)  # in order; those that left are dropped lazily
    _leaving: dict[int, list[int]] = field(default_factory=dict)
    _leave_steps: list[int] = field(default_factory=list)  # heap of the keys of _leaving
    _prefilled: list[int] = field(default_factory=list)  # complete their prompt in this step
    _partial: int = -1  # the one prompt that was cut
    _partial_done: int = 0
    _step: int = 0
    _decoding: int = 0
    _context: int = 0  # tokens held by the decoding sequences
    _reserved: int = 0  # tokens held by all admitted
    _steps: int = 0  # in the work in progress; above 1 only for a stretch without prompts
    _began: float = 0.0
    _first_seconds: float = 0.0
    _growth_seconds: float = 0.0  # by which each step of a stretch is longer than the one before

    def resume(self, request: int) -> None:
        """Take a sequence that is already decoding: its prompt is computed, one token is made."""
        self.present += 1
        self.running += 1
        self._admitted.append(request)
        self._reserved += self.requests.prompt[request]
        self._enter(request)

    def arrive(self, request: int, now: float) -> None:
        """Queue a request; a sleeping engine starts, a stretch is cut at the end of its current step."""
        self.present += 1
        self._waiting.append(request)
        if self.ends == math.inf:
            self.begin(now)
        elif self._steps > 1:
            self._cut(now)

    def finish(self) -> None:
        """Hand out the tokens of the work that ends at `ends`, and begin the next."""
        now, requests = self.ends, self.requests
        self._step += self._steps
        self._context += self._steps * self._decoding
        self._reserved += (self._steps - 1) * self._decoding
        step = self._step
        if self._leave_steps and self._leave_steps[0] == step:
            heapq.heappop(self._leave_steps)
            for request in self._leaving.pop(step):
                if requests.leaves[request] == step:  # else it was preempted since
                    held = requests.prompt[request] + requests.output[request] - 1
                    self._decoding -= 1
                    self._context -= held
                    self._leave(request, held, now)
        for request in self._prefilled:
            if not requests.made[request]:
                requests.first[request] = now
            if requests.output[request] - requests.made[request] == 1:
                self._leave(request, requests.known(request), now)
            else:
                self._enter(request)
        self._prefilled.clear()
        self.begin(now)

    def begin(self, now: float) -> None:
        """Choose the work that starts at `now`: one step with prompts, or a stretch of steps without."""
        requests, profile = self.requests, self.profile
        capacity = profile.kv_capacity_tokens
        preempted = False
        self._reserved += self._decoding
        # The last sequence stays: alone it fits, as the replay has checked.
        while self._reserved > capacity - _HALF_BLOCK * self.running and self.running > 1:
            self._preempt_last()
            preempted = True
        budget = profile.step_token_budget - self._decoding
        prefill, pairs = 0, 0.0
        if self._partial >= 0 and budget > 0:
            chunk = min(requests.known(self._partial) - self._partial_done, budget)
            pairs += chunk * (self._partial_done + chunk / 2)
            prefill += chunk
            budget -= chunk
            self._compute(chunk)
        waiting = self._waiting
        while waiting and budget > 0 and self.running < self.slots and not preempted:
            request = waiting[0]
            known = requests.known(request)
            if self.running and self._reserved + known > capacity - _HALF_BLOCK * (self.running + 1):
                break
            waiting.popleft()
            self._admitted.append(request)
            self.running += 1
            self._reserved += known
            chunk = min(known, budget)
            pairs += chunk * chunk / 2
            prefill += chunk
            budget -= chunk
            self._partial, self._partial_done = request, 0
            self._compute(chunk)
        if not prefill and not self._decoding:
            self.ends = math.inf
            return
        self._began = now
        self._steps = 1
        self._first_seconds = self._seconds(prefill, pairs)
        if not prefill and not preempted and (not waiting or self.running >= self.slots):
            self._stretch(capacity)
        self.ends = now + self._elapsed(self._steps)
        self.busy_seconds += self.ends - now

    def _stretch(self, capacity: float) -> None:
        """Run until the next sequence leaves, or until KV memory is full."""
        until = self._leave_steps[0] - self._step
        room = int((capacity - _HALF_BLOCK * self.running - self._reserved) // self._decoding) + 1
        self._steps = max(1, min(until, room))
        self._growth_seconds = self.profile.step_law.per_kv_token_seconds * self._decoding

    def _elapsed(self, steps: int) -> float:
        if steps == 1:
            return self._first_seconds
        return steps * self._first_seconds + self._growth_seconds * steps * (steps - 1) / 2

    def _cut(self, now: float) -> None:
        """End the stretch with the step in progress at `now`."""
        if self.running >= self.slots:
            return  # nobody can enter before somebody leaves
        passed = now - self._began
        half = self._growth_seconds / 2
        linear = self._first_seconds - half
        if half > 0:
            steps = (math.sqrt(linear * linear + 4 * half * passed) - linear) / (2 * half)
        else:
            steps = passed / linear
        done = min(max(1, math.ceil(steps)), self._steps)
        self.busy_seconds -= self.ends
        self._steps = done
        self.ends = max(self._began + self._elapsed(done), now)
        self.busy_seconds += self.ends

    def _compute(self, chunk: int) -> None:
        """Count `chunk` tokens of the cut prompt as computed by this step."""
        self._partial_done += chunk
        if self._partial_done >= self.requests.known(self._partial):
            self._prefilled.append(self._partial)
            self._partial = -1

    def _enter(self, request: int) -> None:
        requests = self.requests
        last = self._step + requests.output[request] - requests.made[request] - 1
        requests.entered[request] = self._step
        requests.leaves[request] = last
        if last in self._leaving:
            self._leaving[last].append(request)
        else:
            self._leaving[last] = [request]
            heapq.heappush(self._leave_steps, last)
        self._decoding += 1
        self._context += requests.known(request)

    def _leave(self, request: int, held: int, now: float) -> None:
        self.requests.last[request] = now
        self.requests.leaves[request] = GONE
        self._reserved -= held
        self.running -= 1
        self.present -= 1

    def _preempt_last(self) -> None:
        """Push the sequence admitted last back to the head of the queue; it recomputes all it knew."""
        requests = self.requests
        request = self._admitted.pop()
        while requests.leaves[request] == GONE:
            request = self._admitted.pop()
        if request == self._partial:
            held = requests.known(request)
            self._partial = -1
        else:
            made = self._step - requests.entered[request] + 1
            context = requests.known(request) + made - 1
            held = context + 1  # with the room for the token it was about to make
            requests.made[request] += made
            requests.leaves[request] = _WAITING
            self._decoding -= 1
            self._context -= context
        self._reserved -= held
        self.running -= 1
        self._waiting.appendleft(request)

    def _seconds(self, prefill: int, pairs: float) -> float:
        """The step law for plain numbers: numpy's ufuncs on scalars take ten times as long."""
        law, decoding = self.profile.step_law, self._decoding
        tokens = prefill + decoding
        seconds = (
            law.base_seconds
            + max(law.weights_seconds, law.per_token_seconds * tokens)
            + law.per_token_pair_seconds * pairs
            + law.per_kv_token_seconds * self._context
            + law.per_sequence_seconds * decoding
        )
        if law.experts_seconds:
            seconds -= law.experts_seconds * math.expm1(-tokens / law.experts_tokens)
        return seconds
