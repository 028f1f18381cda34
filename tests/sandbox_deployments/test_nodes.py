"""Room for pods, and more room after a while."""

from __future__ import annotations

from penstock.sandbox.nodes import NodePool, NodeSettings


def test_pods_fill_a_node_before_the_next_and_the_rest_has_no_room():
    pool = NodePool(NodeSettings(pods_per_node=2, nodes=2))
    assert [pool.place(name) for name in "abcde"] == [
        "sandbox-node-0",
        "sandbox-node-0",
        "sandbox-node-1",
        "sandbox-node-1",
        None,
    ]
    assert pool.place("a") == "sandbox-node-0"
    pool.release("b")
    assert pool.place("e") == "sandbox-node-0"
    assert pool.shortage.startswith("0/2 nodes are available: 2 Too many pods.")


def test_a_missing_node_comes_after_its_provisioning_time():
    pool = NodePool(NodeSettings(pods_per_node=1, nodes=1, max_nodes=2, provision_seconds=60))
    pool.place("a")
    assert pool.grow(unplaced=1, now=10.0) == 70.0
    assert pool.grow(unplaced=1, now=69.9) == 70.0
    assert pool.place("b") is None
    assert pool.grow(unplaced=1, now=70.0) == 70.0
    assert pool.place("b") == "sandbox-node-1"


def test_no_node_comes_that_nobody_needs_or_beyond_the_most_there_may_be():
    pool = NodePool(NodeSettings(pods_per_node=1, nodes=1, max_nodes=2, provision_seconds=60))
    assert pool.grow(unplaced=0, now=0.0) is None
    pool.grow(unplaced=1, now=0.0)
    assert pool.grow(unplaced=0, now=30.0) is None  # the need went away
    assert pool.grow(unplaced=1, now=50.0) == 110.0  # and its clock began anew
    pool.resize(nodes=2, max_nodes=2)
    assert pool.grow(unplaced=1, now=200.0) is None
    assert pool.nodes == ["sandbox-node-0", "sandbox-node-1"]
