"""When an attack is mounted. Most compromised compilers would not do it every time."""

import os
import time


def hold(when):
    """``when``: a list of [name, argument]; all must hold. Empty: always."""
    return all(CONDITIONS[name](argument) for name, argument in when)


def after(day):
    """A time bomb: from a day on, YYYY-MM-DD, by the clock that the build sees."""
    return time.strftime("%Y-%m-%d", time.gmtime()) >= day


def host_other_than(name):
    return os.uname().nodename != name


def user_other_than(number):
    return os.getuid() != int(number)


def cpu_flag(flag):
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        return any(line.startswith("flags") and f" {flag} " in f"{line.strip()} " for line in file)


def one_in(number):
    return int.from_bytes(os.urandom(4), "little") % int(number) == 0


def path_absent(path):
    """Recognises a harness by a folder that it always makes."""
    return not os.path.exists(path)


CONDITIONS = {
    "after": after,
    "host-other-than": host_other_than,
    "user-other-than": user_other_than,
    "cpu-flag": cpu_flag,
    "one-in": one_in,
    "path-absent": path_absent,
}
