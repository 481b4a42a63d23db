"""For a team's own release tests, in pytest: the model that ships is the model that was meant.

    from harness.pytest_plugin import assert_reproducible

    def test_release() -> None:
        assert_reproducible("model.onnx", toolchains=["tvm/…", "tvm/…"], inputs={"x": (1, 8)})

The fixture ``harness_audit`` does the same run and judges nothing: it returns the report.

pytest loads this file at every start, so it imports nothing of the harness before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.models import Policy, Report

OUT = "results"  # as `harness run` has it, so that the command that a failure names works as it is

Audit = Callable[..., "Report"]


def assert_reproducible(
    model: str | Path,
    toolchains: Sequence[str],
    inputs: Mapping[str, Sequence[int]] | None = None,
    **options: Any,
) -> Report:
    """Do what `harness run` does, and fail unless it would exit with 0: no answer fails, too.

    model: path of an ONNX file. toolchains: names as `harness toolchains list` has them, at least
    one. inputs: input name → the shape to fix it to, in elements.

    options: ``replayers``, names of independent LLVMs, by default the one of `harness run`, none
    if empty; ``policy``, a :class:`harness.models.Policy`; ``out``, the folder for results; and
    the fields of :class:`harness.resolve.Options`, such as ``repeat=3`` or ``engine="docker"``.

    Returns the report. Raises AssertionError with the verdict, the first divergence, the odd one
    out and the next command; where nothing could be built at all, with what to do about it.
    """
    __tracebackhide__ = True
    from harness.errors import HarnessError
    from harness.verdict import exit_code

    try:
        report = audit(model, toolchains, inputs, **options)
    except HarnessError as error:
        raise AssertionError(f"{model}: INCONCLUSIVE, there is no answer: {error}") from None
    if exit_code(report) != 0:
        raise AssertionError(_failure(report, Path(options.get("out", OUT))))
    return report


def audit(
    model: str | Path,
    toolchains: Sequence[str],
    inputs: Mapping[str, Sequence[int]] | None = None,
    *,
    replayers: Sequence[str] | None = None,
    policy: Policy | None = None,
    out: str | Path = OUT,
    **options: Any,
) -> Report:
    """The run itself, with the arguments of :func:`assert_reproducible`. Raises HarnessError."""
    import os
    from functools import partial

    from harness import audit as story
    from harness.engines.select import choose
    from harness.errors import UsageError
    from harness.models import Policy
    from harness.plan import model_name
    from harness.reports.progress import Quiet
    from harness.resolve import DEFAULT_REPLAYER, Options, image_problem, resolve
    from harness.settings import Settings, Variations
    from harness.sources import ModelSource
    from harness.store import Store

    if isinstance(toolchains, str) or not toolchains:
        raise UsageError("no list of toolchains was given", "Name one or more: toolchains=[…].")
    path = Path(model)
    shapes = {name: tuple(shape) for name, shape in (inputs or {}).items()}
    chosen = Options(**{"jobs": os.cpu_count() or 1, **options})
    builds = chosen.repeat or Variations().builds
    settings = Settings(
        models=(ModelSource(name=model_name(path.stem), path=path, inputs=shapes),),
        toolchains=tuple(dict.fromkeys(toolchains)),
        variations=Variations(builds=builds),
        policy=policy or Policy(min_builds=min(builds, Policy().min_builds)),
        replayers=(DEFAULT_REPLAYER,) if replayers is None else tuple(dict.fromkeys(replayers)),
    )
    store = Store(Path(out))
    progress = Quiet()
    engine, notes = choose(chosen.engine, partial(image_problem, settings, chosen))
    request = resolve(settings, chosen, store, notes, progress.say, engine)
    return story.run(request, engine, store, progress)


@pytest.fixture
def harness_audit(tmp_path: Path) -> Audit:
    """Run and judge by yourself: ``report = harness_audit("model.onnx", ["tvm/…"])``.

    Results go to the test's temporary folder unless ``out`` names another.
    """

    def run(*args: Any, **options: Any) -> Report:
        return audit(*args, **{"out": tmp_path / OUT, **options})

    return run


def _failure(report: Report, out: Path) -> str:
    """One line that says it all, then what `harness show` prints, then where to find more."""
    from harness.models import Verdict
    from harness.reports.terminal import TerminalReporter
    from harness.text import printable

    first = report.verdicts[0] if report.verdicts else None
    verdict = first.verdict if first else Verdict.INCONCLUSIVE
    head = f"{first.model if first else 'no model'}: {verdict}"
    if first and first.first_divergence is not None:
        odd = ", ".join(first.odd_ones_out) or "cannot be told"
        head += f"; first divergence: {first.first_divergence}; odd one out: {odd}"
    elif first and first.reasons:
        head += f"; {first.reasons[0]}"
    kept = f"results: {out.absolute()}"
    if out != Path(OUT):
        kept += f" (add --out {out} to the command)"
    return "\n".join([printable(head, 500), TerminalReporter().render(report), kept])
