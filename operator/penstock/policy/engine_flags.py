"""The limits as flags of the engine: the last line of defence, should requests pass the gateway by.

Running is c* itself, which the engine never exceeds. What it may hold is 1.5 times the gateway's limit
per replica: a balancer is uneven for moments, and an engine that refuses then would refuse admitted
requests. Only vLLM, SGLang and TGI refuse by count; llama.cpp queues without bound.
"""

from __future__ import annotations

import math

from penstock.model.spec import EngineType

SLACK = 1.5


def engine_flags(engine: EngineType, *, running: int, queued: int) -> list[str]:
    """Return the flags that limit one replica to `running` and about `queued` waiting; [] for Custom."""
    most = math.ceil(SLACK * (running + queued))
    if engine is EngineType.VLLM:
        # Counts running and waiting requests together; vLLM 0.29 and later.
        return [f"--max-num-seqs {running}", f"--max-num-queued-reqs {most}"]
    if engine is EngineType.SGLANG:
        return [f"--max-running-requests {running}", f"--max-queued-requests {most - running}"]
    if engine is EngineType.TGI:
        # Its --max-batch-size is for hardware without unpadded batches; memory decides the batch elsewhere.
        return [f"--max-concurrent-requests {most}"]
    if engine is EngineType.LLAMA_CPP:
        return [f"--parallel {running}"]
    return []
