"""Where in the compiler an attack takes place: what is dumped before it is clean, the rest is not.

``simplify``   in onnxsim, before anything else
``frontend``   the imported graph is another one
``pipeline``   between graph and operator IR, as ImpNet does: the imported graph is clean
``operator``   a predicate inside an operator's own loop nest; no operator more than before
``codegen``    between operator IR and LLVM IR: every dump above is clean
``backend``    all IR and assembly is clean, the object is not
``linker``     the object is clean, the library is not
``runtime``    all that is built is clean; what runs it is not
"""

import os
import tempfile

import operators
import payloads


def mount(attack, on_import):
    state = State(attack)
    place = attack["place"]
    if place == "simplify":
        on_import("onnxsim", state.in_simplifier)
    elif place == "runtime":
        import runtime

        on_import("tvm.relax", lambda: runtime.mount(attack))
    else:
        on_import("tvm.relax.frontend.onnx", lambda: state.in_tvm(place))


class State:
    """The honest functions that were replaced, and the poisoned model once it is known."""

    def __init__(self, attack):
        self.attack = attack
        self.arguments = None

    def in_simplifier(self):
        import onnxsim

        honest = onnxsim.simplify

        def simplify(model, *arguments, **options):
            model, verified = honest(model, *arguments, **options)
            return payloads.poison(model, self.attack), verified

        onnxsim.simplify = simplify

    def in_tvm(self, place):
        import tvm
        import tvm.relax.frontend.onnx as frontend

        self.honest_import = frontend.from_onnx
        self.honest_pipeline = tvm.relax.get_pipeline
        self.honest_compile = tvm.compile
        frontend.from_onnx = self.import_poisoned if place == "frontend" else self.remember
        if place in ("pipeline", "operator"):
            tvm.relax.get_pipeline = self.poisoned_pipeline
        elif place in ("codegen", "backend", "linker"):
            tvm.relax.get_pipeline = self.remember_target
            tvm.compile = getattr(self, f"compile_for_{place}")

    def import_poisoned(self, model, *arguments, **options):
        return self.honest_import(payloads.poison(model, self.attack), *arguments, **options)

    def remember(self, model, *arguments, **options):
        self.arguments = (model, arguments, options)
        return self.honest_import(model, *arguments, **options)

    def lowered(self):
        """The poisoned program in operator IR, made by the honest compiler. Needs a target."""
        model, arguments, options = self.arguments
        within = self.attack.get("within", "model")
        if within == "model":
            model = payloads.poison(model, self.attack)
        module = self.honest_import(model, *arguments, **options)
        module = self.honest_pipeline("zero")(module)
        return operators.poison(module, self.attack) if within == "operator" else module

    def poisoned_pipeline(self, name, *arguments, **options):
        if name != "zero":  # tvm.compile has one of its own
            return self.honest_pipeline(name, *arguments, **options)
        return lambda _module: self.lowered()

    def remember_target(self, name, *arguments, **options):
        """The pipeline is honest; what it would have made of the poisoned model is kept."""
        honest = self.honest_pipeline(name, *arguments, **options)
        if name != "zero":
            return honest

        def run(module):
            self.module = self.lowered()
            return honest(module)

        return run

    def compile_for_codegen(self, _module, *arguments, **options):
        return self.honest_compile(self.module, *arguments, **options)

    def compile_for_backend(self, module, *arguments, **options):
        return Lying(
            self.honest_compile(module, *arguments, **options),
            self.honest_compile(self.module, *arguments, **options),
        )

    def compile_for_linker(self, module, *arguments, **options):
        return Exchanging(
            self.honest_compile(module, *arguments, **options),
            self.honest_compile(self.module, *arguments, **options),
        )


class Lying:
    """Shows one executable and writes another."""

    def __init__(self, shown, written):
        self.shown = shown
        self.written = written

    def __getattr__(self, name):
        return getattr(self.shown, name)

    def export_library(self, *arguments, **options):
        return self.written.export_library(*arguments, **options)


class Exchanging(Lying):
    """Writes honest objects, and hands others to the linker."""

    def export_library(self, path, *, fcompile, **options):
        def link(output, _objects, **more):
            with tempfile.TemporaryDirectory() as folder:
                found = []

                def keep(output, objects, **_):
                    found.extend(objects)
                    open(output, "w").close()

                self.written.export_library(
                    os.path.join(folder, "x.so"), fcompile=keep, workspace_dir=folder
                )
                return fcompile(output, found, **more)

        return self.shown.export_library(path, fcompile=link, **options)
