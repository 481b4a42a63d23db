"""LLVM's opt and llc, as far as replays need them, over the LLVM that llvmlite carries.

``lite.py opt|llc ARGUMENT…`` takes the arguments of the recipes in ``tvm/replay.toml`` and refuses
every other. ``lite.py ENVIRONMENT OUTPUT`` prepares the environment: it leaves itself in OUTPUT, as
``bin/lite.py``. It imports nothing of the harness.

llvmlite has no switch for ``-fp-contract=fast``. That option lets the code generator treat every
addition, subtraction and multiplication of floats as if it carried the flag ``contract``; here each
gets the flag. Nothing rests on this being the same: what comes out is held against the toolchain's
object, byte for byte.

Exit code 0, or 1 with one line that says what went wrong.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve()
OPERATION = re.compile(
    r"^(  (?:%\S+ = )?f(?:add|sub|mul) )(?!.*\b(?:contract|fast) )", re.MULTILINE
)
FLAGS = {"opt": {"-S", "-passes=default<O3>"}, "llc": {"-O3", "-asm-verbose=0"}}
VALUES = {
    "opt": {"mtriple", "mcpu"},
    "llc": {"mcpu", "relocation-model", "fp-contract", "filetype"},
}


class UsageError(Exception):
    """Arguments that no recipe has."""


def parse(tool: str, words: list[str]) -> tuple[Path, Path, set[str], dict[str, str]]:
    """Input, output, flags, and values by name."""
    names: list[str] = []
    target: str | None = None
    flags: set[str] = set()
    values: dict[str, str] = {}
    waiting = iter(words)
    for word in waiting:
        name, _, value = word[1:].partition("=")
        if word == "-o":
            target = next(waiting, None)
        elif word in FLAGS[tool]:
            flags.add(word)
        elif word.startswith("-") and name in VALUES[tool] and value:
            values[name] = value
        elif word.startswith("-"):
            raise UsageError(f"{tool}: {word} is not known here")
        else:
            names.append(word)
    if len(names) != 1 or target is None:
        raise UsageError(f"{tool}: one input and -o OUTPUT are needed")
    return Path(names[0]), Path(target), flags, values


def run(tool: str, words: list[str]) -> None:
    sys.path.insert(0, str(HERE.parent.parent))
    import llvmlite.binding as llvm

    source, target, flags, values = parse(tool, words)
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    text = source.read_text("utf-8")
    if tool == "opt":
        if flags != FLAGS["opt"]:
            raise UsageError("opt: -S and -passes=default<O3> are needed")
        module = llvm.parse_assembly(text)
        triple = values.get("mtriple") or module.triple
        machine = llvm.Target.from_triple(triple).create_target_machine(
            cpu=values.get("mcpu", ""), opt=2, reloc="default", codemodel="default"
        )
        tuning = llvm.create_pipeline_tuning_options(speed_level=3)
        tuning.slp_vectorization = True  # as opt has it
        builder = llvm.create_pass_builder(machine, tuning)
        builder.getModulePassManager().run(module, builder)
        target.write_text(str(module), "utf-8")
        return
    if "-O3" not in flags or values.get("relocation-model") != "pic":
        raise UsageError("llc: -O3 and -relocation-model=pic are needed")
    if values.get("fp-contract") == "fast":
        text = OPERATION.sub(r"\1contract ", text)
    module = llvm.parse_assembly(text)
    machine = llvm.Target.from_triple(module.triple).create_target_machine(
        cpu=values.get("mcpu", ""), opt=3, reloc="pic", codemodel="default"
    )
    if values.get("filetype") == "obj":
        target.write_bytes(machine.emit_object(module))
    elif values.get("filetype") == "asm":
        machine.set_asm_verbosity("-asm-verbose=0" not in flags)
        target.write_text(machine.emit_assembly(module), "utf-8")
    else:
        raise UsageError("llc: -filetype is obj or asm")


def main(words: list[str]) -> str | None:
    """What went wrong, or None."""
    try:
        if words[:1] and words[0] in FLAGS:
            run(words[0], words[1:])
        elif len(words) == 2:
            place = Path(words[1]) / "bin"
            place.mkdir(parents=True)
            shutil.copyfile(HERE, place / "lite.py")
        else:
            return "usage: lite.py opt|llc ARGUMENT…, or lite.py ENVIRONMENT OUTPUT"
    except (UsageError, OSError, RuntimeError, ValueError) as problem:
        return str(problem).replace("\n", " ")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
