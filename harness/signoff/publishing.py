"""The builds of a run, as signed statements in a bundle, with all that a stranger needs for them.

What a builder publishes: one statement for each build, the profile of each toolchain and replayer
(what it is made of, so that others can tell whether two builders are one), the replays, the record
of each build, and the files that define it all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.audit import Request, replayers_used
from harness.components import host_base
from harness.engines.launch import interpreter
from harness.models import BuildRecord, Model, Outcome, Report
from harness.profiles import gather
from harness.records import dump_build, dump_report
from harness.replay import Replayer
from harness.resolve import Options, folders
from harness.signoff import layout
from harness.signoff.bundle import Bundle
from harness.signoff.materials import Material, of_model, of_toolchains, profile_material
from harness.signoff.pens import Pen
from harness.signoff.provenance import LIBRARY, PROFILE, dump_replays
from harness.signoff.signed_builds import comparable
from harness.signoff.statements import Context, build_statement, model_of, replays_of
from harness.signoff.summary import Rest
from harness.store import Store
from harness.toolchains import load

IN_TOTO = "in-toto"


def publish(
    report: Report, request: Request, options: Options, store: Store, bundle: Bundle, pen: Pen
) -> tuple[Rest, ...]:
    """Sign every build of the run that came out. ``report`` is about one model."""
    name = report.models[0].name
    used = replayers_used(request, report.replays)
    defined = definitions(request, used, options)
    model = of_model(model_of(report, name), store)
    for material in (*model, *defined):
        bundle.add_material(material.content)
    profiles = {
        f"{PROFILE}{found.origin.toolchain}": bundle.add_material(profile_material(found))
        for found in gather(
            request.toolchains, request.installed, used, report.builds,
            report.replays, store, host_base(str(interpreter())),
        )
    }  # fmt: skip
    report_sha256 = bundle.add_material(dump_report(report))
    for sha256 in comparable(report, request.ledger, request.today):
        bundle.add_material(store.verified(sha256))
    written = []
    for record in report.builds:
        if record.outcome is not Outcome.BUILT or not record.artifacts:
            continue
        byproducts = {
            **_profiles(record, used, profiles),
            "record": bundle.add_material(dump_build(record)),
            "replays": bundle.add_material(dump_replays(replays_of(record, report))),
            "report": report_sha256,
        }
        context = Context(
            builder=pen.identity.name,
            dependencies=[(material.name, material.sha256) for material in defined],
            byproducts=list(byproducts.items()),
            replayers=[replayer.toolchain.name for replayer in request.replayers],
            executables=[material.name for material in defined if material.executable],
        )
        data = pen.seal(build_statement(record, report, context))
        written.append(pen.keep(data, bundle))
    return tuple(written)


def publish_links(report: Report, bundle: Bundle, pen: Pen) -> None:
    """The builder's in-toto link, if what it made is one library."""
    model = report.models[0]
    artifacts = [artifact for record in report.builds for artifact in record.artifacts]
    made = {(a.name, a.sha256) for a in artifacts if a.stage == LIBRARY}
    if len(made) == 1 and pen.signer is not None:
        link = layout.build_link(in_toto_files(model), made.pop(), pen.signer)
        layout.publish(bundle.root / IN_TOTO, dict([link]))


def in_toto_files(model: Model) -> dict[str, str]:
    """Path → sha256 of the model and its external data, as in-toto links name them."""
    return {"model.onnx": model.sha256, **dict(model.external)}


def definitions(
    request: Request, used: Sequence[Replayer], options: Options
) -> tuple[Material, ...]:
    """The files that define the toolchains, linkers and replayers of a run."""
    places = folders(options)
    wanted = [*request.toolchains, *(replayer.toolchain for replayer in used)]
    return of_toolchains(wanted, load(places), places, request.recipes)


def _profiles(
    record: BuildRecord, used: Sequence[Replayer], profiles: Mapping[str, str]
) -> dict[str, str]:
    """Those of the build's own toolchain and of the replayers."""
    wanted = [record.toolchain, *(each.toolchain.name for each in used)]
    named = [f"{PROFILE}{name}" for name in wanted]
    return {name: profiles[name] for name in named if name in profiles}
