"""Gives an interpreter the surroundings of another system: a `sitecustomize` that takes away what Linux alone has.

`sys.platform`, the names in the modules, the signals, the size of a page, the C library and /proc are those of the
other system. The kernel stays Linux: what a system call does there is not tested.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.functional.support.harness import REPOSITORY

_BUILD = f"_sysconfigdata_{sys.abiflags}_{sys.platform}_{getattr(sys.implementation, '_multiarch', '')}"

# What Python's own modules do not offer on a system. Source: the Availability notes of the modules' documentation.
_LINUX_ONLY = {
    "os": (
        *("pidfd_open", "P_PIDFD", "O_TMPFILE", "O_NOATIME", "O_LARGEFILE", "splice"),
        *("copy_file_range", "RWF_NOWAIT", "RWF_APPEND", "RWF_SYNC", "RWF_DSYNC", "RWF_HIPRI", "sched_getaffinity"),
        *("sched_setaffinity", "sched_getscheduler", "sched_setscheduler", "getxattr", "setxattr", "listxattr"),
        *("removexattr", "getrandom"),
    ),
    "socket": (
        *("AF_NETLINK", "AF_PACKET", "AF_ALG", "AF_VSOCK", "SO_PEERCRED", "SO_PASSCRED", "SCM_CREDENTIALS", "SO_DOMAIN"),
        *("SO_INCOMING_CPU", "SO_BINDTODEVICE", "SO_MARK", "SO_PRIORITY", "MSG_MORE", "MSG_FASTOPEN", "MSG_ERRQUEUE"),
        *("TCP_INFO", "TCP_CORK", "TCP_DEFER_ACCEPT", "TCP_QUICKACK", "TCP_USER_TIMEOUT", "TCP_SYNCNT", "TCP_LINGER2"),
        *("TCP_WINDOW_CLAMP", "TCP_NOTSENT_LOWAT"),
    ),
    "select": ("epoll", "EPOLLEXCLUSIVE", "EPOLLIN", "EPOLLOUT", "POLLRDHUP", "POLLMSG"),
    "signal": ("SIGPWR", "SIGSTKFLT", "SIGPOLL", "SIGCLD", "pidfd_send_signal"),
    "fcntl": ("F_GETPIPE_SZ", "F_SETPIPE_SZ", "F_ADD_SEALS", "F_OFD_SETLK", "F_OFD_SETLKW", "F_OFD_GETLK", "F_NOTIFY"),
    "time": ("CLOCK_BOOTTIME", "CLOCK_TAI", "CLOCK_MONOTONIC_RAW"),
    "resource": ("prlimit", "RUSAGE_THREAD", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO"),
    "mmap": ("MADV_HUGEPAGE", "MADV_NOHUGEPAGE", "MADV_MERGEABLE", "MADV_DONTFORK", "MADV_DOFORK", "MAP_POPULATE"),
}
# macOS lacks more than FreeBSD.
_NOT_ON_MACOS = {
    "os": (
        *("eventfd", "eventfd_read", "eventfd_write", "EFD_CLOEXEC", "EFD_NONBLOCK", "memfd_create", "MFD_CLOEXEC"),
        *("O_PATH", "O_DIRECT", "MFD_ALLOW_SEALING"),
        *("pipe2", "posix_fadvise", "posix_fallocate", "fdatasync", "getresuid", "getresgid", "setresuid", "setresgid"),
        *("waitid", "P_PID", "WNOWAIT", "WEXITED", "WSTOPPED"),
    ),
    "socket": (
        "MSG_CMSG_CLOEXEC",
        "MSG_NOSIGNAL",
        "SOCK_CLOEXEC",
        "SOCK_NONBLOCK",
        "SOCK_SEQPACKET",
        "TCP_KEEPIDLE",
        "SO_PROTOCOL",
    ),
    "signal": ("SIGRTMIN", "SIGRTMAX", "sigtimedwait", "sigwaitinfo"),
}

# What musl's C library does not have.
_NOT_IN_MUSL = ("gnu_get_libc_version", "mallopt", "malloc_trim", "mallinfo", "mallinfo2", "malloc_info")

_SOURCE = '''
import select, sys

# Before `selectors` is imported, which looks for them.
if "select" in {missing!r}:
    for _name in {missing!r}["select"]:
        delattr(select, _name)

import builtins, errno, fcntl, mmap, os, resource, signal, socket, time

SYSTEM, MISSING, PAGE, NOT_IN_LIBC = {system!r}, {missing!r}, {page}, {not_in_libc!r}
sys.platform = SYSTEM
for _module, _names in MISSING.items():
    for _name in _names:
        if hasattr(sys.modules[_module], _name):
            delattr(sys.modules[_module], _name)
            if _module == "signal" and hasattr(sys.modules["_signal"], _name):
                delattr(sys.modules["_signal"], _name)

mmap.ALLOCATIONGRANULARITY = mmap.PAGESIZE = PAGE
_sysconf = os.sysconf
os.sysconf = lambda name: PAGE if name in ("SC_PAGE_SIZE", "SC_PAGESIZE") else _sysconf(name)

if NOT_IN_LIBC:
    import ctypes

    _find = ctypes.CDLL.__getattr__

    def _getattr(self, name):
        if name in NOT_IN_LIBC:
            raise AttributeError(f"Symbol not found: {{name}}")
        return _find(self, name)

    ctypes.CDLL.__getattr__ = _getattr


def _visible(path):
    """Refuse what is in /proc or /sys. What /dev/fd leads to stays visible."""
    if SYSTEM != "linux" and isinstance(path, (str, bytes)) and os.fsdecode(path).startswith(("/proc", "/sys/")):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fsdecode(path))


def _without_proc(function):
    def call(path=".", *arguments, **keywords):
        _visible(path)
        return function(path, *arguments, **keywords)
    return call


for _name in ("open", "stat", "lstat", "listdir", "readlink", "scandir", "access", "chdir"):
    setattr(os, _name, _without_proc(getattr(os, _name)))
os.supports_dir_fd = os.supports_dir_fd | {{os.open, os.stat, os.readlink, os.access}}
os.supports_fd = os.supports_fd | {{os.listdir, os.scandir, os.stat}}
os.supports_follow_symlinks = os.supports_follow_symlinks | {{os.stat}}
builtins.open = _without_proc(builtins.open)
if SYSTEM != "linux":
    # unix(4): LOCAL_PEERCRED at the level SOL_LOCAL gives a struct xucred, with the version and the user first.
    _getsockopt = socket.socket.getsockopt

    def _with_peer(self, level, option, *arguments):
        if (level, option, self.family) == (0, 1, socket.AF_UNIX):
            return bytes(4) + _getsockopt(self, socket.SOL_SOCKET, 17, 12)[4:8] + bytes(68)
        return _getsockopt(self, level, option, *arguments)

    socket.socket.getsockopt = _with_peer
if SYSTEM == "darwin":
    # Signals that Linux does not have get numbers of real-time signals.
    signal.SIGINFO, signal.SIGEMT = 40, 41
    _valid = frozenset(range(1, 32)) | {{40, 41}}
    signal.valid_signals = lambda: {{signal.Signals(one) if one < 32 else one for one in _valid}} - {{30, 16}}
    # XNU does not tell whether a socket listens.

    def _asked(self, level, option, *arguments):
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))
        return _with_peer(self, level, option, *arguments)

    socket.socket.getsockopt = _asked
    # A pair of datagram sockets reports a closed peer there. On Linux, packets do.
    _socketpair, _DATAGRAM = socket.socketpair, socket.SOCK_DGRAM
    socket.socketpair = lambda family=socket.AF_UNIX, kind=socket.SOCK_STREAM, proto=0: _socketpair(
        family, 5 if kind == _DATAGRAM else kind, proto
    )
'''


def make_system(directory: Path, system: str, page: int) -> dict[str, str | None]:
    """Write the `sitecustomize` to `directory`; the variables with which an interpreter runs on the other system.

    system: as `sys.platform` has it, "darwin" or "freebsd14"; "musl": Linux with musl, and a Python that was built
    without `os.memfd_create`. page: the size of a page of memory in bytes.
    """
    missing: dict[str, list[str]] = {"os": ["memfd_create", "RWF_NOWAIT", "pwritev"]}
    if system != "musl":
        missing = {module: list(names) for module, names in _LINUX_ONLY.items()}
    if system == "darwin":
        for module, names in _NOT_ON_MACOS.items():
            missing[module] += names
    values = {
        "system": "linux" if system == "musl" else system,
        "missing": missing,
        "page": page,
        "not_in_libc": _NOT_IN_MUSL if system == "musl" else (),
    }
    directory.mkdir(exist_ok=True)
    (directory / "sitecustomize.py").write_text(_SOURCE.format_map(values))
    return {
        "PYTHONPATH": f"{directory}:{REPOSITORY}",
        "PYTHONDONTWRITEBYTECODE": "1",
        # How this interpreter was built is in a module that `sysconfig` finds by the name of the system.
        "_PYTHON_SYSCONFIGDATA_NAME": _BUILD,
    }
