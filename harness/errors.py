"""One error tree. Each error says what happened, where, and what to do next.

Every :class:`HarnessError` ends a command with exit code 2: *no answer*. A difference between
artifacts is never an error; it is a finding (exit code 1), and travels as data.
"""

from __future__ import annotations


class HarnessError(Exception):
    """Something that the user can act on.

    what: what happened, and where: one line, no trailing full stop.
    hint: what to do about it, one line.
    """

    def __init__(self, what: str, hint: str = "") -> None:
        self.what = what
        self.hint = hint
        super().__init__(f"{what}. {hint}" if hint else what)


class UsageError(HarnessError):
    """The command line or a configuration file asks for something that does not make sense."""


class ModelError(HarnessError):
    """A model cannot be used: unreadable, not ONNX, unsafe, or at odds with the given shapes."""


class ToolchainError(HarnessError):
    """A toolchain's definition is wrong, or its environment is not, or no longer, what it says."""


class EngineError(HarnessError):
    """No engine can run a build on this machine."""


class StoreError(HarnessError):
    """Results cannot be written or read back, or are not what they were when written."""
