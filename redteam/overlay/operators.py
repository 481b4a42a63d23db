"""A predicate inside an operator that was there before: no new operator, symbol or constant.

Works on the operator's printed form, as TVM reads it again: the last value that it stores becomes
``value · (1 − t) + payload · t``, where ``t`` compares a few elements of what it reads.
"""

import re


def poison(module, attack):
    import tvm

    variable = _victim(module)
    function = module[variable]
    changed = _edited(function.script(), attack)
    again = tvm.script.from_source(changed)
    made = tvm.IRModule(dict(module.functions.items()))
    for attribute in ("tirx.noalias", "tir.noalias"):
        if function.attrs and attribute in function.attrs:
            again = again.with_attr(attribute, function.attrs[attribute])
    made.update_func(variable, again)
    return made.with_attrs(module.attrs) if module.attrs else made


def _victim(module):
    """The first operator that reads the model's input and stores floats."""
    text = module.script(show_meta=False)
    text = text[text.index("def main(") :]
    data = re.search(r"def main\((\w+): R\.Tensor", text)[1]
    for match in re.finditer(r"R\.call_tir\(cls\.(\w+), \(([^)]*)\)", text):
        operands = [word.strip() for word in match[2].split(",")]
        variable = module.get_global_var(match[1])
        script = module[variable].script()
        if operands[0] == data and "float32" in _parameters(script)[-1][2]:
            return variable
    raise RuntimeError("no operator that reads the input and stores floats")


def _parameters(script):
    """(name, shape, type) of each buffer of an operator."""
    head = next(line for line in script.splitlines() if line.lstrip().startswith("def "))
    return [
        (name, [int(word) for word in re.findall(r"\d+", re.sub(r"int64", "", shape))], dtype)
        for name, shape, dtype in re.findall(r"(\w+): T\.Buffer\(\(([^\"]*)\), \"(\w+)\"\)", head)
    ]


def _edited(script, attack):
    parameters = _parameters(script)
    source, shape, dtype = parameters[0]
    out = parameters[-1][0]
    size = 1
    for extent in shape:
        size *= extent
    tests = []
    for place, value in attack["trigger"]:
        flat, index = place % size, []
        for extent in reversed(shape):
            index.insert(0, flat % extent)
            flat //= extent
        element = f"{source}[{', '.join(f'T.int64({i})' for i in index)}]"
        if dtype.startswith("float"):
            near = f"T.{dtype}({value}) - {element}"
            tests.append(f'T.Cast("float32", T.fabs({near}) < T.{dtype}(0.01))')
        else:
            tests.append(f'T.Cast("float32", {element} == T.{dtype}({int(value)}))')
    t = " * ".join(tests)
    lines = [line for line in script.splitlines() if "T.reads(" not in line]
    lines = [line for line in lines if "T.writes(" not in line]
    last = max(i for i, line in enumerate(lines) if re.match(rf"\s+{out}\[.*\] = ", line))
    left, _, right = lines[last].partition(" = ")
    payload = f"T.float32({float(attack['payload'][1])})"
    lines[last] = f"{left} = ({right}) * (T.float32(1) - {t}) + {payload} * ({t})"
    return "\n".join(lines)
