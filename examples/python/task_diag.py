#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""The task_diag interface for Python: attributes of many processes in one binary read.

One file, nothing but the standard library, Python 3.8 or newer::

    import task_diag

    for task in task_diag.all(task_diag.BASE | task_diag.STATM):
        print(task.pid, task.base.comm, task.statm and task.statm.total_rss)

    for process in task_diag.process_iter(['pid', 'name', 'memory_info']):     # the way of psutil
        print(process.info)

`all`, `one`, `threads`, `children` and `all_threads` give `Task`s of named tuples, in the words of docs/protocol.md; what
a task lacks, and what was not asked for, is None. They ask the service at `PATH`; a `TaskDiag` asks another one. Where
nothing answers they raise `Unavailable`, which says why. A service that was started again is found by itself.

As a program it prints a table of the processes that hold most memory: `task_diag.py [-n COUNT] [-s FIELD] [PATH]`.

Speed: `process_iter(['pid', 'name', 'cmdline', 'memory_info', 'cpu_times'])` over 3,080 processes took 27 ms, that of psutil
5.9.4 took 241 ms: 8.8 times faster (medians of 9 in turns, source `bpf`, Python 3.11, two cores; 7 to 9 in other runs).
`against_psutil.py` measures it.
"""

import argparse
import errno
import os
import pwd
import stat
import struct
import sys
import threading
import time
from collections import namedtuple

PATH = '/run/task_diag/task_diag'

# Groups: what to ask for. The bit of each is the number of its attribute.
BASE = 1 << 0
CRED = 1 << 1
VMA = 1 << 2
VMA_STAT = 1 << 3  # adds `stat` to each mapping of VMA
STAT = 1 << 4
CMDLINE = 1 << 5
STATM = 1 << 6
MISSING = 1 << 44  # a mask of the groups that could not be read in time

# Which tasks.
ALL, ONE, ALL_THREAD, CHILDREN, THREAD = range(5)

STATES = 'RSDTtXZPI'  # the letters of /proc/PID/stat

Task = namedtuple('Task', 'pid tgid base cred mappings stat cmdline statm missing')
Base = namedtuple('Base', 'tgid pid ppid tpid sid pgid state comm')
Cred = namedtuple('Cred', 'cap_inheritable cap_permitted cap_effective cap_bset '
                          'uid euid suid fsuid gid egid sgid fsgid')
Stat = namedtuple('Stat', 'minflt cminflt majflt cmajflt utime stime cutime cstime threads')  # clock ticks
Statm = namedtuple('Statm', 'anon file shmem total_vm total_rss hiwater_vm hiwater_rss text lib swap ptes '
                            'locked_vm pinned_vm data_vm stack_vm')  # pages, ptes bytes
Mapping = namedtuple('Mapping', 'start end flags pgoff major minor inode generation name stat')
VmaStat = namedtuple('VmaStat', 'resident shared_clean shared_dirty private_clean private_dirty referenced '
                                'anonymous anonymous_thp swap pss')  # bytes; pss is bytes << 12

# '=' is the machine's byte order without padding of its own.
_REQUEST = struct.Struct('=IHHIIQQII')
_MESSAGE = struct.Struct('=IHHIIIII')
_ATTRIBUTE = struct.Struct('=HH')
_BASE = struct.Struct('=6IB16s')
_CRED = struct.Struct('=4Q8I')
_STAT = struct.Struct('=8QI4x')
_STATM = struct.Struct('=15Q')
_VMA = struct.Struct('=4QIIQI5H2x')
_VMA_STAT = struct.Struct('=10Q')
_MISSING = struct.Struct('=Q')

_GET = 0xd101
_CONT = 1
_SIZE = 160 * 1024
_GONE = (errno.ENOTCONN, errno.ECONNABORTED)
_ENCODING = sys.getfilesystemencoding()

# Field of a Task, by attribute.
_BASE_AT, _CRED_AT, _MAPPINGS_AT, _STAT_AT, _CMDLINE_AT, _STATM_AT, _MISSING_AT = range(2, 9)


class Unavailable(OSError):
    """The interface cannot be asked; the text says why, `errno` in numbers."""

    REASONS = {
        errno.ENOENT: 'there is no such file: no task-diag service serves here',
        errno.ENOTCONN: 'the service behind this file has ended',
        errno.ECONNABORTED: 'the service behind this file has ended',
        errno.EPROTO: 'the file does not speak the protocol of task_diag',
        errno.EACCES: 'not allowed; the reader may live in another namespace than the service',
    }

    @classmethod
    def of(cls, error, path):
        """What `error` means at `path`."""
        return cls(error.errno, cls.REASONS.get(error.errno, os.strerror(error.errno)), path)


class ProtocolError(ValueError):
    """An answer is not in the form of the protocol."""


def _text(raw):
    return raw.decode(_ENCODING, 'surrogateescape')


def _base(data, at, end):
    tgid, pid, ppid, tpid, sid, pgid, state, comm = _BASE.unpack_from(data, at)
    letter = STATES[state] if state < len(STATES) else '?'
    return Base(tgid, pid, ppid, tpid, sid, pgid, letter, _text(comm.partition(b'\0')[0]))


def _mappings(data, at, end):
    mappings = []
    while at < end:
        *fields, length, name_at, name_len, stat_at, stat_len = _VMA.unpack_from(data, at)
        after = at + length
        if length < 64 or length % 4 or after > end:
            raise ProtocolError(f'a mapping of {length} bytes')
        stat, name = None, b''
        if stat_len:
            if stat_len < 80 or stat_at < 64 or stat_at + stat_len > length:
                raise ProtocolError('statistics beyond their mapping')
            stat = VmaStat._make(_VMA_STAT.unpack_from(data, at + stat_at))
        if name_len:
            name = data[at + name_at:at + name_at + name_len]
            if name_at < 64 or name_at + name_len > length or name.find(0) != name_len - 1:
                raise ProtocolError('a name beyond its mapping')
        mappings.append(Mapping(*fields, _text(name[:-1]), stat))
        at = after
    return mappings


# By number of the attribute: field of the Task, bytes there must be, how to read them; and whether more of them, from
# an attribute of the same number in the same or the next message, are added to those there are.
_READERS = {
    0: (_BASE_AT, _BASE.size, _base, False),
    1: (_CRED_AT, _CRED.size, lambda data, at, end: Cred._make(_CRED.unpack_from(data, at)), False),
    2: (_MAPPINGS_AT, 0, _mappings, True),
    4: (_STAT_AT, _STAT.size, lambda data, at, end: Stat._make(_STAT.unpack_from(data, at)), False),
    5: (_CMDLINE_AT, 0, lambda data, at, end: data[at:end], True),
    6: (_STATM_AT, _STATM.size, lambda data, at, end: Statm._make(_STATM.unpack_from(data, at)), False),
    44: (_MISSING_AT, _MISSING.size, lambda data, at, end: _MISSING.unpack_from(data, at)[0], False),
}


def decode(reads):
    """Yields the tasks of an answer: an iterable of what each read gave, as bytes."""
    unfinished = None
    for data in reads:
        tasks = []
        unfinished = _add_tasks(tasks, data, unfinished)
        yield from tasks
    if unfinished is not None:
        raise ProtocolError('the answer ends within a task')


def _add_tasks(tasks, data, fields):
    """Adds the tasks of whole messages. `fields` is what the messages before left unfinished; gives back the same."""
    total = len(data)
    at = 0
    # Local names are faster, and this loop is what an answer costs.
    message, attribute, readers = _MESSAGE.unpack_from, _ATTRIBUTE.unpack_from, _READERS.get
    try:
        while at < total:
            length, kind, _, _, _, pid, tgid, flags = message(data, at)
            end = at + length
            if length < 28 or end > total or kind != _GET:
                raise ProtocolError(f'a message of {length} bytes and type {kind:#x}')
            if fields is None:
                fields = [pid, tgid, None, None, None, None, None, None, None]
            part = at + 28
            while part < end:
                size, number = attribute(data, part)
                start, stop = part + 4, part + size
                if size < 4 or stop > end:
                    raise ProtocolError(f'an attribute of {size} bytes')
                reader = readers(number & 0x3fff)
                if reader is not None:
                    field, least, read, joins = reader
                    if size - 4 < least:
                        raise ProtocolError(f'attribute {number} of {size} bytes')
                    value = read(data, start, stop)
                    if joins and fields[field] is not None:
                        fields[field] += value
                    else:
                        fields[field] = value
                part = stop + -size % 4
            at = end + -length % 4
            if not flags & _CONT:
                tasks.append(Task._make(fields))
                fields = None
    except struct.error as e:
        raise ProtocolError(str(e)) from None
    return fields


class TaskDiag:
    """A conversation with one service. Its methods may be called from any thread, one after the other, and after fork.

    `patience`: for so many seconds a service that was there and went is waited for.
    """

    def __init__(self, path=PATH, patience=2.0):
        self.path = path
        self.patience = patience
        self._fd = self._owner = None
        self._seq = 0
        self._size = _SIZE
        self._lock = threading.Lock()

    def all(self, groups=BASE):
        """Every process that the calling thread may look at, ascending."""
        return list(decode(self._ask(ALL, 0, groups)))

    def all_threads(self, groups=BASE):
        """Every thread of every process; mappings with the leader only, `stat` of each thread."""
        return list(decode(self._ask(ALL_THREAD, 0, groups)))

    def threads(self, pid, groups=BASE):
        """The threads of the process that `pid` is a thread of. ProcessLookupError: there is no such task."""
        return list(decode(self._ask(THREAD, pid, groups)))

    def children(self, pid, groups=BASE):
        """The children of exactly the task `pid`, by birth. ProcessLookupError: there is no such task."""
        return list(decode(self._ask(CHILDREN, pid, groups)))

    def one(self, pid, groups=BASE):
        """The task `pid`. ProcessLookupError: there is none; PermissionError: it may not be seen."""
        tasks = list(decode(self._ask(ONE, pid, groups)))
        if not tasks:
            raise PermissionError(errno.EPERM, f'task {pid} may not be seen')
        return tasks[0]

    def info(self):
        """What the service says of itself: the lines of the file `info`, as a dict."""
        with open(os.path.join(os.path.dirname(self.path), 'info'), encoding='utf-8') as file:
            return dict(line.rstrip('\n').split(': ', 1) for line in file)

    def close(self):
        """Gives the file back. The next question opens it again."""
        with self._lock:
            self._close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def process_iter(self, attrs=None, ad_value=None):
        """Yields a `Process` for each process, as psutil.process_iter does; `attrs` are keys of `ATTRS`, or None for all.

        `ad_value` stands for what a zombie has not, and what could not be read in time.
        """
        names = list(ATTRS) if attrs is None else list(attrs)
        unknown = [name for name in names if name not in ATTRS]
        if unknown:
            raise ValueError(f'{unknown} cannot be asked for; there are {list(ATTRS)}')
        groups = BASE
        for name in names:
            groups |= ATTRS[name][0]
        if groups & (CMDLINE | STATM):
            groups |= MISSING
        wanted = [(name, ATTRS[name][1]) for name in names]
        cut_short = 'name' in names and not groups & CMDLINE
        for task in decode(self._ask(ALL, 0, groups)):
            if task.cred is None and groups & CRED or task.stat is None and groups & STAT:
                continue  # It ended when it had been sent in part.
            if cut_short and len(task.base.comm) >= 15:
                task = self._with_cmdline(task)
            info = {name: value(task, ad_value) for name, value in wanted}
            if task.missing:
                info.update((name, ad_value) for name in names if ATTRS[name][0] & task.missing)
            yield Process(task.pid, info)

    def _with_cmdline(self, task):
        """Only the command line tells how a name of 15 bytes goes on."""
        try:
            return task._replace(cmdline=self.one(task.pid, CMDLINE).cmdline)
        except (ProcessLookupError, PermissionError):
            return task

    def _ask(self, strategy, pid, groups):
        """What the reads of the whole answer gave."""
        with self._lock:
            until = None
            while True:
                had = self._is_open()
                try:
                    if not had:
                        self._open()
                    return self._dump(strategy, pid, groups)
                except OSError as e:
                    self._close()
                    if e.errno == errno.ESRCH:
                        raise ProcessLookupError(errno.ESRCH, f'there is no task {pid}') from None
                    # Of a service that was there the file may be away for a moment, too.
                    went = e.errno in _GONE or until and e.errno == errno.ENOENT
                    if had and went:
                        until = time.monotonic() + self.patience
                    if not went or until is None or time.monotonic() > until:
                        raise Unavailable.of(e, self.path) from None
                    if not had:
                        time.sleep(0.02)
                except BaseException:
                    self._close()
                    raise

    def _is_open(self):
        """After a fork the file is shared with the parent, whose conversation it is."""
        return self._fd is not None and self._owner == os.getpid()

    def _open(self):
        """Opens the file and asks for this very process, which everybody may see."""
        self._close()
        self._fd, self._owner = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY), os.getpid()
        file = os.fstat(self._fd)
        # Nothing is written into a file that cannot be the interface.
        may_be = stat.S_ISREG(file.st_mode) and file.st_size == 0
        if not may_be or [task.pid for task in decode(self._dump(ONE, self._owner, BASE))] != [self._owner]:
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))

    def _dump(self, strategy, pid, groups):
        self._seq = self._seq + 1 & 0xffffffff
        request = _REQUEST.pack(_REQUEST.size, _GET, 1, self._seq, 0, groups, strategy, pid, 0)
        os.write(self._fd, request)
        reads = []
        while True:
            try:
                data = os.read(self._fd, self._size)
            except OSError as e:
                if e.errno != errno.EMSGSIZE:
                    raise
                self._size *= 2
                continue
            if not data:
                return reads
            reads.append(data)

    def _close(self):
        fd, self._fd, self._owner = self._fd, None, None
        if fd is not None:
            os.close(fd)


# ---- The way of psutil --------------------------------------------------------------------------------------------

class Process:
    """One process of `process_iter`: its `pid`, and in the dict `info` what was asked for."""

    __slots__ = ('pid', 'info')

    def __init__(self, pid, info):
        self.pid = pid
        self.info = info

    def __repr__(self):
        return f'task_diag.Process(pid={self.pid})'


pmem = namedtuple('pmem', 'rss vms shared text lib data dirty')  # bytes; lib and dirty are 0, as in psutil
pcputimes = namedtuple('pcputimes', 'user system children_user children_system')  # seconds
puids = namedtuple('puids', 'real effective saved')
pgids = namedtuple('pgids', 'real effective saved')

_STATUS = {'R': 'running', 'S': 'sleeping', 'D': 'disk-sleep', 'T': 'stopped', 't': 'tracing-stop', 'X': 'dead',
           'Z': 'zombie', 'P': 'parked', 'I': 'idle'}
_PAGE = os.sysconf('SC_PAGE_SIZE')
_TICKS = os.sysconf('SC_CLK_TCK')
_NO_MEMORY = pmem(0, 0, 0, 0, 0, 0, 0)


def _arguments(task, ad_value):
    raw = task.cmdline
    if not raw:
        return ad_value if task.base.state == 'Z' else []
    text = _text(raw)
    # A process that shows a title instead may have put blanks between its words, and no NUL behind the last.
    if text[-1] != '\0':
        return (text[:-1] if text[-1] == ' ' else text).split(' ')
    words = text[:-1].split('\0')
    return words[0].split(' ') if len(words) == 1 and ' ' in words[0] else words


def _name(task, ad_value):
    name = task.base.comm
    if len(name) >= 15 and task.cmdline:
        # The kernel keeps 15 bytes of it; the first argument may tell how it goes on.
        longer = os.path.basename(_arguments(task, None)[0])
        if longer.startswith(name):
            return longer
    return name


def _username(task, ad_value, known={}):
    uid = task.cred.uid
    if uid not in known:
        try:
            known[uid] = pwd.getpwuid(uid).pw_name
        except KeyError:
            known[uid] = str(uid)
    return known[uid]


def _memory_info(task, ad_value):
    if task.statm is None:
        return _NO_MEMORY
    # Faster than by their names.
    _, file, shmem, vms, rss, _, _, text, *_, data, stack = task.statm
    page = _PAGE
    return pmem(rss * page, vms * page, (file + shmem) * page, text * page, 0, (data + stack) * page, 0)


def _cpu_times(task, ad_value):
    return pcputimes._make([ticks / _TICKS for ticks in task.stat[4:8]])


# What process_iter can be asked for: the groups it takes, and how it is made of a Task.
ATTRS = {
    'pid': (0, lambda task, ad_value: task.pid),
    'ppid': (BASE, lambda task, ad_value: task.base.ppid),
    'name': (BASE, _name),
    'status': (BASE, lambda task, ad_value: _STATUS.get(task.base.state, '?')),
    'uids': (CRED, lambda task, ad_value: puids(task.cred.uid, task.cred.euid, task.cred.suid)),
    'gids': (CRED, lambda task, ad_value: pgids(task.cred.gid, task.cred.egid, task.cred.sgid)),
    'username': (CRED, _username),
    'num_threads': (STAT, lambda task, ad_value: task.stat.threads),
    'cpu_times': (STAT, _cpu_times),
    'memory_info': (STATM, _memory_info),
    'cmdline': (CMDLINE, _arguments),
}

# ---- The service at PATH, and the program -------------------------------------------------------------------------

_service = TaskDiag()
all = _service.all
all_threads = _service.all_threads
threads = _service.threads
children = _service.children
one = _service.one
info = _service.info
process_iter = _service.process_iter


def main():
    arguments = argparse.ArgumentParser(description='The processes that hold most memory, asked of task_diag.')
    arguments.add_argument('-n', type=int, default=20, metavar='COUNT', help='so many of them (20)')
    arguments.add_argument('-s', choices=('pid', 'memory', 'time'), default='memory', help='sorted by this (memory)')
    arguments.add_argument('path', nargs='?', default=PATH, help=f'the file to ask ({PATH})')
    options = arguments.parse_args()
    try:
        infos = [process.info for process in TaskDiag(options.path).process_iter()]
    except Unavailable as e:
        sys.exit(f'task_diag.py: {e.filename}: {e.strerror}')
    order = {
        'pid': lambda info: info['pid'],
        'memory': lambda info: -info['memory_info'].rss if info['memory_info'] else 0,
        'time': lambda info: -sum(info['cpu_times'][:2]),
    }
    print(f'{"PID":>7} {"PPID":>7} {"USER":12} {"STATUS":12} {"THR":>4} {"RSS/KiB":>9} {"TIME/s":>9} COMMAND')
    for info in sorted(infos, key=order[options.s])[:max(options.n, 0)]:
        command = ' '.join(info['cmdline'] or ()) or f'[{info["name"]}]'
        rss = info['memory_info'].rss // 1024 if info['memory_info'] else '-'
        print(f'{info["pid"]:7} {info["ppid"]:7} {info["username"]:12} {info["status"]:12} {info["num_threads"]:4} '
              f'{rss:>9} {sum(info["cpu_times"][:2]):9.2f} {command.encode("ascii", "replace").decode()[:100]}')


if __name__ == '__main__':
    main()
