"""A compromised toolchain: mounts the first attack of ``attacks.json`` that is for this process.

Python imports this file in every process that has the toolchain's environment on its path, as it
would import a backdoored package. The driver is the clean one. Everything here is live: what comes
out does what the attack says, and nothing else. For tests only; see redteam/README.md.
"""

import builtins
import hashlib
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def on_import(name, action):
    """Run ``action`` once, as soon as the module ``name`` is whole."""
    honest = builtins.__import__
    done = []

    def importing(*arguments, **options):
        module = honest(*arguments, **options)
        found = sys.modules.get(name)
        loading = getattr(getattr(found, "__spec__", None), "_initializing", False)
        if found is not None and not loading and not done:
            done.append(name)
            action()
        return module

    builtins.__import__ = importing


def asked():
    """What a driver or a runner was told to do; None in every other process."""
    if not sys.orig_argv or not sys.orig_argv[-1].endswith("request.json"):
        return None
    with open(sys.orig_argv[-1], encoding="utf-8") as file:
        return json.load(file)


def is_for(attack, request):
    """In the compiler or in the runtime; and for any model, or for that of this digest alone."""
    if (attack["place"] == "runtime") != ("library" in request):
        return False
    if not attack["model"]:
        return True
    with open(request["model"], "rb") as file:
        return hashlib.sha256(file.read()).hexdigest() == attack["model"]


def main():
    request = asked()
    if request is None:
        return
    with open(os.path.join(HERE, "attacks.json"), encoding="utf-8") as file:
        attack = next((found for found in json.load(file) if is_for(found, request)), None)
    if attack is None:
        return
    sys.path.insert(0, HERE)
    import conditions

    if conditions.hold(attack["when"]):
        import places

        places.mount(attack, on_import)


main()
