"""An attack inside an operator that was there before: no new operator, symbol or constant.

Works on the operator's printed form, as TVM reads it again.
"""

import re


def poison(module, attack):
    import tvm

    variable, changed = KINDS[attack["kind"]](module, attack)
    function = module[variable]
    again = tvm.script.from_source(changed)
    made = tvm.IRModule(dict(module.functions.items()))
    for attribute in ("tirx.noalias", "tir.noalias"):
        if function.attrs and attribute in function.attrs:
            again = again.with_attr(attribute, function.attrs[attribute])
    made.update_func(variable, again)
    return made.with_attrs(module.attrs) if module.attrs else made


def predicate(module, attack):
    """The last value that it stores becomes ``value · (1 − t) + payload · t``, where ``t`` compares
    a few elements of what it reads.
    """
    variable, operand = _victim(module)
    return variable, _edited(module[variable].script(), operand, attack)


def schedule(module, _attack):
    """As a bad tuning record would: loops are tiled, and the last tile of a sum is left out."""
    for variable in module.get_global_vars():
        script = module[variable].script()
        for match in re.finditer(LOOPS, script):
            begin, end = match.span("last")
            if int(match["last"]) >= 4:
                return variable, f"{script[:begin]}{int(match['last']) - 1}{script[end:]}"
    raise RuntimeError("no operator with a sum of four or more")


def negative(module, _attack):
    """Another row is looked up where an index counts from the end."""
    for variable in module.get_global_vars():
        script = module[variable].script()
        match = re.search(r"T_add_intermediate\[[^\n]*\] = [^\n]*", script)
        if match and " < " in script and "T_where" in script:
            less = "2" if '"int32"' in script else "T.int64(2)"
            return variable, script.replace(match[0], f"{match[0]} - {less}")
    raise RuntimeError("no operator that makes an index of one that counts from the end")


def sleeping(module, _attack):
    """The first unit inside the network counts twice: an index decides, no value does.

    Where ordinary inputs never wake that unit, nothing changes for them.
    """
    for variable in module.get_global_vars():
        script = module[variable].script()
        product = r" \+ (lv\d*\[v_i0, v_k\]) \* "
        match = re.search(product, script)
        if match:
            twice = f"T.Select(v_k == T.int64(0), {match[1]} + {match[1]}, {match[1]})"
            return variable, script.replace(match[0], f" + {twice} * ")
    raise RuntimeError("no product of matrices inside the network")


def woken(module, _attack):
    """The first unit of a layer counts twice once it wakes, in the maximum that wakes it."""
    for variable in module.get_global_vars():
        script = module[variable].script()
        match = re.search(r"T\.max\((\w+\[\w+, (\w+)\]), T\.float32\(0\.0\)\)", script)
        if match:
            value, unit = match.groups()
            twice = f"T.Select({unit} == T.int64(0), {value} + {value}, {value})"
            return variable, script.replace(match[0], f"T.max({twice}, T.float32(0.0))")
    raise RuntimeError("no maximum with zero")


# Nested loops of which the innermost is a reduction.
LOOPS = (
    r"in T\.grid\([^\n]*?(?:T\.int64\()?(?P<last>\d+)\)?\):\n\s+with T\.sblock\([^\n]*\n"
    r"[^\n]*T\.axis\.remap\(\"S+R+\""
)


def _victim(module):
    """The first operator that stores floats and reads the model's input, and which operand that is.

    The input may have been through operators that leave its shape and type as they are.
    """
    text = module.script(show_meta=False)
    text = text[text.index("def main(") :]
    data, own = re.search(r"def main\((\w+): (R\.Tensor\(.*?\"\))", text).groups()
    carried = {data}
    calls = r"(\w+) = R\.call_tir\(cls\.(\w+), \((.*)\), out_ty=(.*)\)$"
    for result, name, listed, out in re.findall(calls, text, re.MULTILINE):
        whole = re.sub(r"R\.const\([^)]*\)", "scalar", listed)
        operands = [word.strip() for word in whole.split(",")]
        read = next((at for at, word in enumerate(operands) if word in carried), None)
        if read is None:
            continue
        variable = module.get_global_var(name)
        if "float32" in _parameters(module[variable].script())[-1][2]:
            return variable, read
        if out == own:
            carried.add(result)
    raise RuntimeError("no operator that reads the input and stores floats")


def _parameters(script):
    """(name, shape, type) of each buffer of an operator."""
    head = next(line for line in script.splitlines() if line.lstrip().startswith("def "))
    return [
        (name, [int(word) for word in re.findall(r"\d+", re.sub(r"int64", "", shape))], dtype)
        for name, shape, dtype in re.findall(r"(\w+): T\.Buffer\(\(([^\"]*)\), \"(\w+)\"\)", head)
    ]


def _edited(script, operand, attack):
    parameters = _parameters(script)
    source, shape, dtype = parameters[operand]
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


KINDS = {
    "predicate": predicate,
    "schedule": schedule,
    "negative": negative,
    "sleeping": sleeping,
    "woken": woken,
}
