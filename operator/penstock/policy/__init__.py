"""Pure deciders and estimators: (spec, observation, memory, now) -> (decision, memory)."""
