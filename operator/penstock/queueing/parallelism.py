"""How a step's time changes when an engine is spread over several GPUs.

    tensor    T/TP + layers x all-reduce          (two all-reduces a layer in most models: count both)
    pipeline  T/PP x (M + PP - 1)/M               M micro-batches; the bubble is (PP - 1)/(M + PP - 1)
    data      DP replicas: the rate scales, the step does not
    ring all-reduce  2 (d - 1)/d x bytes/bandwidth + 2 (d - 1) x latency

At degree 1 each is the identity. First-order laws: kernels lose efficiency when split thinly.
Sources: Shoeybi et al., Megatron-LM (2019); Huang et al., GPipe (2019); Patarasuk & Yuan, JPDC 69 (2009).
"""

from __future__ import annotations

from penstock.queueing.domain import non_negative, positive, whole_number


def all_reduce_seconds(
    *, message_bytes: float, degree: int, bytes_per_second: float, hop_seconds: float = 0.0
) -> float:
    """Return the time of one ring all-reduce among `degree` GPUs: 0 for one."""
    others = float(whole_number("degree", degree)) - 1
    moved = 2 * others / (others + 1) * non_negative("message_bytes", message_bytes)
    transfer = moved / positive("bytes_per_second", bytes_per_second)
    return float(transfer + 2 * others * non_negative("hop_seconds", hop_seconds))


def tensor_parallel_step_seconds(
    step_seconds: float, degree: int, *, all_reduces: int, all_reduce_seconds: float
) -> float:
    """Return the step's time when every layer is split over `degree` GPUs.

    `all_reduces` is their number in one step (layers x all-reduces per layer); with one GPU there are none.
    """
    split = positive("step_seconds", step_seconds) / whole_number("degree", degree)
    if degree == 1:
        return float(split)
    communication = non_negative("all_reduces", all_reduces) * non_negative(
        "all_reduce_seconds", all_reduce_seconds
    )
    return float(split + communication)


def pipeline_bubble_ratio(stages: int, micro_batches: int) -> float:
    """Return the share of a pipeline's time in which a stage idles: (PP - 1)/(M + PP - 1)."""
    idle = whole_number("stages", stages) - 1
    return float(idle / (whole_number("micro_batches", micro_batches) + idle))


def pipeline_parallel_step_seconds(step_seconds: float, stages: int, micro_batches: int) -> float:
    """Return the time per step's worth of work of `stages` stages fed `micro_batches` at a time."""
    busy = 1 - pipeline_bubble_ratio(stages, micro_batches)
    return float(positive("step_seconds", step_seconds) / (stages * busy))


def data_parallel_rate(rate_per_second: float, degree: int) -> float:
    """Return the throughput of `degree` independent copies, requests per second."""
    return float(positive("rate_per_second", rate_per_second) * whole_number("degree", degree))
