"""The latencies of the hardware, as the cycle model counts them.

Those of a unit's own pipeline are attributes of the unit; the others, which lead from one unit to
another, are numbers here.
"""

from lutcore.hw.compute.array import ArrayUnit
from lutcore.hw.compute.final import FinalUnit
from lutcore.hw.compute.run_sums import RunSums
from lutcore.hw.compute.scale import REUSE, ScaleUnit
from lutcore.hw.compute.walk import BodyQueue
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.memory.buffers import BufferReader

__all__ = ["Latencies"]


class Latencies:
    """Cycles that the pipelines of the hardware take.

    Where a latency leads from one event to another, both happen within their cycle: a transfer,
    the issue of a word, the acceptance of a command.
    """

    #: Start to the request of the program; a request to its first beat, latency of memory aside.
    FETCH_REQUEST = 1
    REQUEST_BEAT = 4
    #: Last word of the program to the first dispatch; one dispatch to the next.
    DISPATCH_FIRST = 4
    DISPATCH = 1
    #: Start of a nest to its first body, its depth aside; end of a body to the next one, the loops
    #: inside the one that advances aside; what is added if the body was taken at once.
    NEST = 2
    NEST_AT_ONCE = 1
    #: Command to the splitter behind a window.
    WINDOW = 2
    #: LDW counts groups one by one, and this many cycles more, before it asks for slots.
    BLOCK_SIZES = 4
    #: Giving a token to its being available.
    TOKEN = 2
    #: All idle to an instruction that waits for it; what END takes more than others.
    IDLE = 2
    END = 1
    #: A body is taken from its nest, and may begin; what waiting for activations adds.
    BODY = BodyQueue.latency
    BODY_SLOT = 1
    #: The beginning of a body to accepting its first activation word; a word of the buffer is
    #: complete to accepting its first item.
    TABLE_READ = 1 + BufferReader.latency
    ITEM = 2 + BufferReader.latency
    #: SCALE takes a sum to an accumulator being free.
    CREDIT = 2
    #: A run's last activation word to its tag at SCALE.
    RUN_TAG = RunSums.latency
    #: The beginning of a set's fill to the issue of its first lookup, its entries aside; the issue
    #: of its last lookup to the beginning of the next fill of its bank.
    SET = 0
    BANK_FREE = 1
    #: What a set with ternary tables takes more that is the first in its bank: entries it clears.
    CLEAR = 2
    #: A weight word is complete to its issue.
    WORD = 2
    #: The last term of a visit to a sum to the first one of the next visit.
    REUSE = REUSE
    #: The last term of a sum slot to FINAL; FINAL's own stages; the last read of a slot to SCALE.
    SUM_SLOT = ScaleUnit.latency
    FINAL = FinalUnit.latency
    FREED = 2
    #: Longest burst in beats, and bursts under way, in each direction.
    BURST = 32
    OUTSTANDING = 8

    @staticmethod
    def array(config: CoreConfig) -> int:
        """Issue of a tile's last word to its sums at SCALE."""
        return ArrayUnit.latency_of(config)
