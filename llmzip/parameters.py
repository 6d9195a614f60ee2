"""Parameters of prediction, which an archive states, and the levels that choose them.

Only the encoder knows levels. It writes the parameters of a level into the archive, so one decoder reads all levels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

MAX_BLOCK = 1 << 24  # bytes of content in one block
MAX_LANES = 4096
PERCENTAGES = range(1, 51)  # of an archive that parity may restore
SINKS = 4
DEFAULT_LEVEL = 6


@dataclass(frozen=True)
class BiasParameters:
    """Parameters of `adapter.bias`.

    Attributes:
        rate: how far a bias moves, in units of 1/16 of a log2 unit.
        prior: after gradients of so many symbols, a bias moves at half its first pace.
    """

    rate: int
    prior: int


@dataclass(frozen=True)
class NeighbourParameters:
    """Parameters of `adapter.neighbours`.

    Attributes:
        capacity_bits: log2 of the number of latest symbols that are remembered.
        sharpness: log2 of the weight of an identical state relative to an unrelated one.
    """

    capacity_bits: int
    sharpness: int


@dataclass(frozen=True)
class CorrectionParameters:
    """Parameters of `engine.corrections`, and of how `learning` changes them.

    Attributes:
        rank: rows of each correction.
        segment: symbols between two steps of learning, about.
        rate: how far a correction moves in the first steps, in units of 1/1024 of a weight's last place.
        matrices: which matrices are corrected, a sum of VALUES, GATE_UP and DOWN.
    """

    rank: int
    segment: int
    rate: int
    matrices: int

    def segment_steps(self, lanes: int) -> int:
        """Steps of all lanes between two steps of learning."""
        return max(1, self.segment // lanes)


VALUES, GATE_UP, DOWN = 1, 2, 4  # of `CorrectionParameters.matrices`


@dataclass(frozen=True)
class AdapterParameters:
    """Parameters of what learns while coding; a part that is None is switched off.

    Attributes:
        round_symbols: symbols between two updates of biases and neighbours, about.
    """

    round_symbols: int = 32
    bias: BiasParameters | None = None
    neighbours: NeighbourParameters | None = None
    corrections: CorrectionParameters | None = None

    def subsets(self) -> list[AdapterParameters]:
        """These parameters with every subset of the parts that are switched on: all parts first, none last.

        Corrections are either with all other parts or not there, as each further case would take a run of the model of its own.
        """
        keep_or_drop = ([self.bias, None], [self.neighbours, None])
        frozen = [replace(self, bias=b, neighbours=n, corrections=None) for b, n in product(*keep_or_drop)]
        return list(dict.fromkeys([self, *frozen]))


FROZEN = AdapterParameters()


@dataclass(frozen=True)
class AttentionSpan:
    """Which positions attention sees.

    Attributes:
        window: how many of the latest positions, the present one included.
        sinks: how many of the first positions, always.
        local: If true, local-attention heads keep their short window; otherwise every head uses the full one.
    """

    window: int
    sinks: int = SINKS
    local: bool = True


@dataclass(frozen=True)
class Level:
    """Settings of a level: how the encoder cuts and predicts.

    Attributes:
        span: which positions attention sees.
        lane_symbols: symbols of a lane, about; if None, a block has one lane.
        adapter: what learns while coding.
        block_bytes: content of one block at most.
    """

    span: AttentionSpan
    lane_symbols: int | None
    adapter: AdapterParameters
    block_bytes: int = 1 << 20

    def lanes(self, symbols: int) -> int:
        """Lanes of a block of so many symbols. More lanes decode faster; each costs some bytes, as it starts without context."""
        return max(1, min(symbols // self.lane_symbols, MAX_LANES)) if self.lane_symbols else 1


_BIAS = BiasParameters(rate=46, prior=3)
_SHARPNESS = 86
_CORRECTIONS = CorrectionParameters(rank=8, segment=64, rate=30, matrices=VALUES | GATE_UP | DOWN)


def _learning(capacity_bits: int | None, corrections: CorrectionParameters | None = None) -> AdapterParameters:
    return AdapterParameters(32, _BIAS, NeighbourParameters(capacity_bits, _SHARPNESS) if capacity_bits else None, corrections)


LEVELS: dict[int, Level] = {
    1: Level(AttentionSpan(512), 1024, FROZEN),
    2: Level(AttentionSpan(768), 1024, _learning(None)),
    3: Level(AttentionSpan(1024), 2048, _learning(None)),
    4: Level(AttentionSpan(1280), 2048, _learning(14)),
    5: Level(AttentionSpan(1280), 4096, _learning(14)),
    6: Level(AttentionSpan(1280), 4096, _learning(15)),
    7: Level(AttentionSpan(2048), 8192, _learning(16)),
    8: Level(AttentionSpan(4096), 16384, _learning(17)),
    9: Level(AttentionSpan(8156, local=False), None, _learning(18, _CORRECTIONS), block_bytes=1 << 22),
}
# Of what starts from nothing: it attends to nothing, and has neither lanes nor levels.
FROM_NOTHING = Level(AttentionSpan(1, 0), None, FROZEN, MAX_BLOCK)
