"""How many examples Hypothesis tries: `quick` in the quick loop, `ci` in a complete run, `long` when asked for by HYPOTHESIS_PROFILE."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

FACTORS = {"quick": 0.2, "ci": 1.0, "long": 10.0}
_chosen = "ci"


def choose(name: str) -> None:
    """Load a profile; to be called before tests are imported. Raise KeyError for an unknown one."""
    global _chosen
    for profile, factor in FACTORS.items():
        slow = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture] if profile == "long" else []
        settings.register_profile(profile, max_examples=round(100 * factor), deadline=None, suppress_health_check=slow)
    FACTORS[name]
    settings.load_profile(name)
    _chosen = name


def examples(n: int) -> int:
    """Examples of a test that tries `n` in a complete run."""
    return max(5, round(FACTORS[_chosen] * n))
