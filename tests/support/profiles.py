"""How many examples Hypothesis tries: `quick` in the quick loop, `ci` in a complete run, `long` when asked for by HYPOTHESIS_PROFILE.

In the first two all inputs are the same in each run, so that a commit passes always or never. `long` looks for new ones.
"""

from __future__ import annotations

import random

from hypothesis import HealthCheck, settings

FACTORS = {"quick": 0.2, "ci": 1.0, "long": 10.0}
_chosen = "ci"


def choose(name: str) -> None:
    """Load a profile; to be called before tests are imported. Raise KeyError for an unknown one."""
    global _chosen
    for profile, factor in FACTORS.items():
        slow = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture] if profile == "long" else []
        number, same = round(100 * factor), profile != "long"
        settings.register_profile(profile, max_examples=number, derandomize=same, deadline=None, suppress_health_check=slow)
    FACTORS[name]
    settings.load_profile(name)
    _chosen = name


def fresh_seed() -> int:
    """A seed for inputs that other runs did not have, where new ones are looked for, else always the same."""
    return random.randrange(1 << 32) if _chosen == "long" else 1


def examples(n: int) -> int:
    """Examples of a test that tries `n` in a complete run."""
    return max(5, round(FACTORS[_chosen] * n))
