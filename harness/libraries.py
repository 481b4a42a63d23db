"""What running the built libraries says: of numbers, and of decisions that nobody asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from harness.accounting.interface import Kind
from harness.build import Installed
from harness.engines.interface import Engine
from harness.execute import has_runner
from harness.models import Account, BuildRecord, LeftOver, Model, Outcome
from harness.numeric import Checked, cross_check, prove
from harness.store import Store

Folder = Callable[[], AbstractContextManager[Path]]


def look(
    model: Model,
    controls: Sequence[BuildRecord],
    checked: Checked,
    installed: Mapping[str, Installed],
    store: Store,
    engine: Engine,
    folder: Folder,
) -> Checked:
    """``checked`` with what came of one model added.

    controls: control builds, of other models too. folder: gives an empty folder for a while.
    """
    own = [r for r in controls if r.model == model.name and r.outcome is Outcome.BUILT]
    if not own or not has_runner(own[0].compiler):
        return checked
    with folder() as place:
        numbers = cross_check(model, own, installed, store, engine, place)
    accounts = [*checked.accounts, *numbers.accounts]
    for record in own:
        wanted = [
            each
            for each in accounts
            if each.build == record.id and each.kind == Kind.DECISIONS and each.left_over
        ]
        places = tuple(dict.fromkeys(one.where for each in wanted for one in each.left_over))
        if not places or any(each.shared_with for each in wanted):
            continue
        with folder() as place:
            tried = prove(model, record, places, installed, store, engine, place)
        said = {one.where: one.what for one in tried}
        accounts = [_told(each, said) if each in wanted else each for each in accounts]
    return Checked(tuple(accounts), (*checked.notes, *numbers.notes))


def _told(account: Account, said: Mapping[str, str]) -> Account:
    """The account; where the search came to something, the finding says so."""

    def told(one: LeftOver) -> LeftOver:
        return replace(one, what=f"{one.what}; {said[one.where]}") if one.where in said else one

    return replace(account, left_over=tuple(told(one) for one in account.left_over))
