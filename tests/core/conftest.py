"""How long Hypothesis looks: enough to find what a change breaks, little enough to be run at every change."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "core", max_examples=100, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("core")
