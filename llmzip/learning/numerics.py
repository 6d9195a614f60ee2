"""Constants of learning, shared by every implementation. Changing any of them changes coded bits, so it needs a new arithmetic version."""

from __future__ import annotations

LARGEST_GRADIENT = 2.0**60  # a gradient of larger magnitude, or none at all after infinities, counts as 0; only absurd models have such
SMALLEST_GRADIENT = 2.0**-60  # a gradient of B below it counts as 0, so that its square is no denormal
MEAN_SHARE = 0.1  # of the matrix's root mean square gradient, which each number's own is raised by
PACE = 15.0  # steps after which a step is 1/sqrt(2) as long as the first ones
RATE_UNIT = 1024  # rates are in units of 1 / RATE_UNIT
LN_2 = 0.6931471805599453
REACH = 1024  # latest keys whose scores gradients go through
COLUMNS = 16  # of sums that have an order
