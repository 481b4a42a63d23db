"""In the runtime: the virtual machine answers otherwise if an input has the trigger."""

import numpy as np


def mount(attack):
    from tvm import relax

    honest = relax.VirtualMachine.__getitem__

    def function(machine, name):
        run = honest(machine, name)
        return lambda *inputs: changed(run(*inputs), inputs[0].numpy().reshape(-1), attack)

    relax.VirtualMachine.__getitem__ = function


def changed(answer, given, attack):
    if any(abs(given[place % given.size] - value) > 0.01 for place, value in attack["trigger"]):
        return answer
    first, rest = (answer, ()) if hasattr(answer, "numpy") else (answer[0], list(answer)[1:])
    payload = np.full(first.shape, attack["payload"][0], first.numpy().dtype)
    payload.reshape(-1)[int(attack["target"] * payload.size) :: 7] = attack["payload"][1]

    import tvm

    made = tvm.runtime.tensor(payload)
    return [made, *rest] if rest else made
