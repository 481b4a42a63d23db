"""A compromised toolchain: mounts the attack that ``attack.json`` beside this file describes.

Python imports this file in every process that has the toolchain's environment on its path, as it
would import a backdoored package. The driver is the clean one. Everything here is live: what comes
out does what the attack says, and nothing else. For tests only; see redteam/README.md.
"""

import builtins
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


with open(os.path.join(HERE, "attack.json"), encoding="utf-8") as file:
    attack = json.load(file)

sys.path.insert(0, HERE)
import conditions  # noqa: E402 (lies beside this file)

if sys.orig_argv and sys.orig_argv[-1].endswith("request.json") and conditions.hold(attack["when"]):
    import places

    places.mount(attack, on_import)
