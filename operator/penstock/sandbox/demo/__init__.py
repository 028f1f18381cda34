"""The scene of ``penstock demo``: what is applied, what happens when, what is said and what came of it."""
