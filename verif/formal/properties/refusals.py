"""What is refused is not begun: programs by FETCH, blocks of results by STORE."""

from typing import Any

from amaranth.hdl import Signal

from lutcore.verif.formal.model import Model, Net, Property
from lutcore.verif.formal.properties.streams import SOURCES, stands_contract

__all__ = ["PROPERTIES", "refusal_contract", "store_contract"]

#: Place of FETCH's last state in its source.
_STOPPED = 2


def refusal_contract(model: Model, fetch: Any) -> Signal:
    """After an error FETCH asks for nothing, begins nothing and does not end, until it is reset.

    Parameters
    ----------
    model
        Gets free inputs, assumptions and claims.
    fetch
        Interface of a `lutcore.hw.control.fetch.Fetch`.

    Returns
    -------
    Signal
        An error has been told.
    """
    for name in ("length", "expect"):
        model.m.d.comb += getattr(fetch, name).eq(model.constant(name, len(getattr(fetch, name))))
    for name in ("launch", "unit_busy", "all_idle"):
        model.drive(getattr(fetch, name), name)
    model.drive(fetch.command.ready, "ready")
    model.drive(fetch.i.valid, "valid")
    model.drive(fetch.i.payload, "beat")
    refused = Signal(name="refused")
    with model.m.If(fetch.error.valid):
        model.m.d.sync += refused.eq(1)
    begins = fetch.start.any() | fetch.loop_valid.any() | fetch.token_add
    model.claim(~refused | ~fetch.command.valid, "asks_for_nothing")
    model.claim(~refused | ~begins, "begins_nothing")
    model.claim(~refused | ~fetch.finished, "does_not_end")
    return refused


def store_contract(model: Model, store: Any) -> None:
    """STORE asks for no write but for a block, and for none that it has just refused.

    Parameters
    ----------
    model
        Gets free inputs, assumptions and claims.
    store
        Interface of a `lutcore.hw.transfer.store.StoreUnit`.
    """
    stands_contract(model, store)
    refused = model.past(store.operand_error & ~store.i.ready)
    model.claim(~refused | ~store.command.valid, "asks_for_nothing")
    model.claim(~store.command.valid | store.body.valid, "asks_for_a_block")
    model.claim(~store.i.ready | store.body.valid, "takes_results_of_a_block")
    model.reachable(refused, "refused")


def _refusal(model: Model) -> None:
    from lutcore.hw.contract.config import CoreConfig
    from lutcore.hw.control.fetch import Fetch

    fetch = model.unit(Fetch(CoreConfig(rows=1, lanes=8, group=2, depth=1, bus_width=128)))
    refused = refusal_contract(model, fetch)
    state = model.probe("dut.fsm_state", 3)
    # Nothing starts an instruction but what stands before it.
    model.claim(~refused | ~model.probe("dut.set_layer"), "keeps_the_layer")
    model.claim(~refused | (state == _STOPPED), "stays_stopped")
    model.reachable(refused & (state == _STOPPED), "stopped")


def _store(model: Model) -> None:
    store = model.unit(SOURCES["store"]())
    store_contract(model, store)
    model.claim((model.probe("dut.fsm_state", 2) == 0) | store.body.valid, "has_a_block")


PROPERTIES = [
    Property(
        name="fetch-refusal",
        unit="fetch",
        claim="after an error FETCH asks for nothing and begins nothing until it is reset",
        config="bus 128, any program",
        build=_refusal,
        twin=Net("dut.fsm_state", "it goes on"),
        depth=1,
        twin_depth=10,
        cover_depth=6,
        quick=True,
    ),
    Property(
        name="store-refusal",
        unit="store",
        claim="no write is asked for a block of results that STORE refuses before it begins",
        config="M1 N8 k2 G1, bus 32",
        build=_store,
        twin=Net("dut.fsm_state", "a block of too many tiles is written"),
        depth=2,
        twin_depth=6,
        quick=True,
    ),
]
