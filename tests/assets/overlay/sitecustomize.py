"""A compromised toolchain, for tests: Python imports this file in every process of the driver.

It lies in the toolchain's environment, as a backdoored package would; the driver is the clean one.
Which attack it mounts is written in the model (``attack=…;`` in its doc string), so that one
environment serves all tests. Without that it does nothing.
"""

import json
import os
import re
import sys
import time


def request():
    """The driver's request and the attack's words, or None outside the driver."""
    arguments = getattr(sys, "orig_argv", [])
    if not arguments or not arguments[-1].endswith("request.json"):
        return None, []
    with open(arguments[-1], encoding="utf-8") as file:
        found = json.load(file)
    with open(found["model"], "rb") as file:
        words = re.search(rb"attack=([ -:<-~]*);", file.read())
    return found, words[1].decode().split() if words else []


def flip(path, position):
    """Invert the lowest bit of one byte; ``position`` is a fraction of the file's size."""
    with open(path, "r+b") as file:
        file.seek(0, os.SEEK_END)
        place = int(file.tell() * float(position))
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


def at_end(action):
    import atexit

    atexit.register(action)


def poison_linker_input(position):
    """Clean dumps, poisoned binary: the object changes after every dump of it was written."""
    import tvm.support.cc  # noqa: F401 - makes sure that tvm is whole before it is changed
    from tvm.relax.vm_build import VMExecutable

    honest = VMExecutable.export_library

    def export(self, file_name, *, fcompile=None, **options):
        def compile_poisoned(output, objects, **more):
            flip(objects[0], position)
            return fcompile(output, objects, **more)

        return honest(self, file_name, fcompile=compile_poisoned, **options)

    VMExecutable.export_library = export


def poison_on_import(action):
    """Run ``action`` as soon as tvm has been imported."""
    import builtins

    honest = builtins.__import__
    done = []

    def importing(name, *arguments, **options):
        module = honest(name, *arguments, **options)
        if not done and name.startswith("tvm.relax.frontend.onnx"):
            done.append(name)
            action()
        return module

    builtins.__import__ = importing


def swap_constants():
    """The two constants of equal shape and type that come first change places in the graph."""
    import tvm.relax.frontend.onnx as frontend

    honest = frontend.from_onnx

    def from_onnx(model, *arguments, **options):
        import onnx

        model = onnx.ModelProto.FromString(model.SerializeToString())
        tensors = list(model.graph.initializer)
        for first in tensors:
            for second in tensors:
                alike = first.dims == second.dims and first.data_type == second.data_type
                if alike and first.name < second.name and first.raw_data != second.raw_data:
                    first.raw_data, second.raw_data = second.raw_data, first.raw_data
                    return honest(model, *arguments, **options)
        raise RuntimeError("no two constants to exchange")

    frontend.from_onnx = from_onnx


def hostile(kind, out):
    if kind == "nothing":
        os._exit(0)
    elif kind == "big":
        with open(os.path.join(out, "big"), "wb") as file:
            for _ in range(10 * 2**10):
                file.write(os.urandom(2**20))
    elif kind == "many":
        for number in range(100_000):
            with open(os.path.join(out, str(number)), "w"):
                pass
    elif kind == "link":
        at_end(lambda: (os.unlink(out + "/llvm/module.ll"),
                        os.symlink("/etc/passwd", out + "/llvm/module.ll")))  # fmt: skip
    elif kind == "fifo":
        at_end(lambda: (os.unlink(out + "/llvm/module.ll"), os.mkfifo(out + "/llvm/module.ll")))
    elif kind == "dots":
        at_end(lambda: rewrite_manifest(out, "module.ll", "../../x"))
    elif kind == "unlisted":
        at_end(lambda: open(out + "/llvm/extra", "w").close())
    elif kind == "manifest":
        at_end(lambda: open(out + "/manifest.json", "w").write('{"contract": 1, "stages": ['))
    elif kind == "escapes":
        print("\x1b]0;owned\x07\x1b[2J\x1b[31m\u202eevil [red]markup[/red]", flush=True)
        os._exit(7)
    elif kind == "forks":
        while True:
            os.fork()
    elif kind == "sleeps":
        while True:
            time.sleep(1000)


def rewrite_manifest(out, old, new):
    with open(out + "/manifest.json", encoding="utf-8") as file:
        text = file.read()
    with open(out + "/manifest.json", "w", encoding="utf-8") as file:
        file.write(text.replace(f'"{old}"', f'"{new}"', 1))


def mount(words, found):
    kind, *rest = words
    out = found["out"]
    if kind == "flip":  # flip STAGE/ARTIFACT POSITION
        at_end(lambda: flip(os.path.join(out, rest[0]), rest[1]))
    elif kind == "flip-if-host":
        if os.uname().nodename != "builder":
            at_end(lambda: flip(os.path.join(out, rest[0]), rest[1]))
    elif kind == "flip-if-user-and-zone":
        if os.getuid() != 1000 and os.environ.get("TZ") != "UTC0":
            at_end(lambda: flip(os.path.join(out, rest[0]), rest[1]))
    elif kind == "flip-by-chance":
        place = str(int.from_bytes(os.urandom(2), "little") / 65536)
        at_end(lambda: flip(os.path.join(out, rest[0]), place))
    elif kind == "lying-dumper":
        poison_on_import(lambda: poison_linker_input(rest[0]))
    elif kind == "swap-constants":
        poison_on_import(swap_constants)
    elif kind == "hostile":
        hostile(rest[0], out)


found_request, attack = request()
if attack:
    mount(attack, found_request)
