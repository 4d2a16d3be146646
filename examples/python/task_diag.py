#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""The task_diag interface for Python: attributes of many processes in one binary read.

One file, nothing but the standard library, Python 3.8 or newer::

    import task_diag

    for task in task_diag.all(task_diag.BASE | task_diag.STATM):
        print(task.pid, task.base.comm, task.statm and task.statm.total_rss)

    for process in task_diag.process_iter(['pid', 'name', 'memory_info']):     # the way of psutil
        print(process.info)

`all`, `one`, `some`, `subtree`, `threads`, `children` and `all_threads` give `Task`s of named tuples, in the words of
docs/protocol.md; what a task lacks, and what was not asked for, is None. They ask the service at `PATH`; a `TaskDiag` asks
another one. Where nothing answers they raise `Unavailable`, which says why. A service that was started again is found by
itself.

As a program it prints a table of the processes that hold most memory: `task_diag.py [-n COUNT] [-s FIELD] [PATH]`.

Speed: `process_iter(['pid', 'name', 'cmdline', 'memory_info', 'cpu_times'])` over 3,080 processes took 27 ms, that of psutil
5.9.4 took 241 ms: 8.8 times faster (medians of 9 in turns, source `bpf`, Python 3.11, two cores; 7 to 9 in other runs).
`against_psutil.py` measures it.
"""

import argparse
import errno
import glob
import operator
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
# These are the project's own: a kernel with the patch does not know them. `info()['groups']` names those of a service.
TASKSTATS = 1 << 32
GROUPS = 1 << 33
SCHED = 1 << 34
IO = 1 << 35
CGROUP = 1 << 36
NS = 1 << 37
FILES = 1 << 38
FD_COUNT = 1 << 39
FD = 1 << 40
ROLLUP = 1 << 41
ENVIRON = 1 << 42
MISC = 1 << 43
MISSING = 1 << 44  # a mask of the groups that could not be read in time

# Which tasks.
ALL, ONE, ALL_THREAD, CHILDREN, THREAD = range(5)
SET, SUBTREE = 16, 17  # the project's own
_SET_MAX = (64 * 1024 - 44) // 4  # ids in one request

STATES = 'RSDTtXZPI'  # the letters of /proc/PID/stat

Task = namedtuple('Task', 'pid tgid base cred mappings stat cmdline statm taskstats groups sched io cgroups namespaces '
                          'files fd_count fds rollup environ misc missing')
Base = namedtuple('Base', 'tgid pid ppid tpid sid pgid state comm')
Cred = namedtuple('Cred', 'cap_inheritable cap_permitted cap_effective cap_bset '
                          'uid euid suid fsuid gid egid sgid fsgid')
Stat = namedtuple('Stat', 'minflt cminflt majflt cmajflt utime stime cutime cstime threads')  # clock ticks
Statm = namedtuple('Statm', 'anon file shmem total_vm total_rss hiwater_vm hiwater_rss text lib swap ptes '
                            'locked_vm pinned_vm data_vm stack_vm')  # pages, ptes bytes
Mapping = namedtuple('Mapping', 'start end flags pgoff major minor inode generation name stat')
VmaStat = namedtuple('VmaStat', 'resident shared_clean shared_dirty private_clean private_dirty referenced '
                                'anonymous anonymous_thp swap pss')  # bytes; pss is bytes << 12
Groups = namedtuple('Groups', 'cap_ambient securebits no_new_privs seccomp gids')
Sched = namedtuple('Sched', 'start_time voluntary_switches involuntary_switches guest_time children_guest_time '
                            'blkio_delay flags nice priority rt_priority policy processor tty_nr tpgid exit_signal')
Io = namedtuple('Io', 'rchar wchar syscr syscw read_bytes write_bytes cancelled_write_bytes')
Cgroup = namedtuple('Cgroup', 'hierarchy controllers path')
Namespaces = namedtuple('Namespaces', 'cgroup ipc mnt net pid pid_for_children time time_for_children user uts pids')
Files = namedtuple('Files', 'exe cwd root')
FdCount = namedtuple('FdCount', 'open soft_limit hard_limit')
Fd = namedtuple('Fd', 'fd type flags pos inode major minor name')
Rollup = namedtuple('Rollup', 'rss pss pss_dirty pss_anon pss_file pss_shmem shared_clean shared_dirty private_clean '
                              'private_dirty referenced anonymous ksm lazy_free anon_huge_pages locked '
                              'shmem_pmd_mapped file_pmd_mapped shared_hugetlb private_hugetlb swap swap_pss')  # bytes
Misc = namedtuple('Misc', 'oom_score oom_score_adj loginuid sessionid wchan label')

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
_GROUPS = struct.Struct('=QIBBHI')
_SCHED = struct.Struct('=6QIiiIIiiii4x')
_IO = struct.Struct('=7Q')
_CGROUP = struct.Struct('=6H')
_NS = struct.Struct('=4H')
_FILES = struct.Struct('=6H')
_FD_COUNT = struct.Struct('=I4x2Q')
_FD = struct.Struct('=QQIIII3HBx')
_ROLLUP = struct.Struct('=22Q')
_MISC = struct.Struct('=iiII4H')
_MISSING = struct.Struct('=Q')

_GET = 0xd101
_CONT = 1
_SIZE = 160 * 1024
_GONE = (errno.ENOTCONN, errno.ECONNABORTED)
_ENCODING = sys.getfilesystemencoding()

# Field of a Task, by attribute.
_AT = {name: at for at, name in enumerate(Task._fields)}
_NOTHING = [None] * (len(Task._fields) - 2)
_GROUPS_AT, _FILES_AT = _AT['groups'], _AT['files']
_NONE = 0xffffffff


class Unavailable(OSError):
    """The interface cannot be asked; the text says why, `errno` in numbers."""

    REASONS = {
        errno.ENOENT: 'there is no such file: no task-diag service serves here',
        errno.ENOTCONN: 'the service behind this file has ended',
        errno.ECONNABORTED: 'the service behind this file has ended',
        errno.EPROTO: 'the file does not speak the protocol of task_diag',
        errno.EINVAL: 'the service does not know this way to ask',
        errno.EACCES: 'not allowed: to open the file, or the service cannot tell who this process is',
    }

    @classmethod
    def of(cls, error, path):
        """What `error` means at `path`."""
        return cls(error.errno, cls.REASONS.get(error.errno, os.strerror(error.errno)), path)


class ProtocolError(ValueError):
    """An answer is not in the form of the protocol."""


def _no_task(pid):
    return ProcessLookupError(errno.ESRCH, f'there is no task {pid}')


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


def _string(data, at, end, off, length):
    """The string of a payload that goes from `at` to `end`; None if there is none."""
    if not length:
        return None
    raw = data[at + off:at + off + length]
    if at + off + length > end or raw.find(0) != length - 1:
        raise ProtocolError('a string beyond its payload')
    return _text(raw[:-1])


def _numbers(data, at, end, off, count):
    if off + 4 * count > end - at:
        raise ProtocolError('a list beyond its payload')
    return struct.unpack_from(f'={count}I', data, at + off)


def _records(form, where, data, at, end):
    """Yields begin, end and head of each record; field `where` of the head is the record's length."""
    while at < end:
        fields = form.unpack_from(data, at)
        length = fields[where]
        if length < form.size or length % 4 or at + length > end:
            raise ProtocolError(f'a record of {length} bytes')
        yield at, at + length, fields
        at += length


def _cgroups(data, at, end):
    return [Cgroup(hierarchy, _string(data, begin, after, names_at, names_len) or '',
                   _string(data, begin, after, path_at, path_len) or '')
            for begin, after, (_, hierarchy, names_at, names_len, path_at, path_len)
            in _records(_CGROUP, 0, data, at, end)]


def _fds(data, at, end):
    return [Fd(fd, kind, flags, pos, inode, major, minor, _string(data, begin, after, name_at, name_len) or '')
            for begin, after, (pos, inode, fd, flags, major, minor, _, name_at, name_len, kind)
            in _records(_FD, 6, data, at, end)]


def _namespaces(data, at, end):
    ns_at, ns_count, pids_at, pids_count = _NS.unpack_from(data, at)
    inodes = _numbers(data, at, end, ns_at, ns_count)
    return Namespaces(*(inodes + (0,) * 10)[:10], _numbers(data, at, end, pids_at, pids_count))


def _fd_count(data, at, end):
    count, *limits = _FD_COUNT.unpack_from(data, at)
    return FdCount(count, *(None if limit == (1 << 64) - 1 else limit for limit in limits))


def _misc(data, at, end):
    score, adjusted, login, session, wchan_at, wchan_len, label_at, label_len = _MISC.unpack_from(data, at)
    return Misc(score, adjusted, None if login == _NONE else login, None if session == _NONE else session,
                _string(data, at, end, wchan_at, wchan_len), _string(data, at, end, label_at, label_len))


def _groups(data):
    """The payload of all pieces."""
    ambient, securebits, no_new_privs, seccomp, gids_at, count = _GROUPS.unpack_from(data)
    return Groups(ambient, None if securebits == _NONE else securebits, bool(no_new_privs), seccomp,
                  _numbers(data, 0, len(data), gids_at, count))


def _files(data):
    """The payload of all pieces."""
    places = _FILES.unpack_from(data)
    return Files(*(_string(data, 0, len(data), off, length) for off, length in zip(places[::2], places[1::2])))


def _layout(*fields):
    """Name, offset and form of each field of a C structure."""
    at, layout = 0, []
    for form, names in fields:
        size = struct.calcsize('=' + form)
        for name in names.split():
            at += -at % min(size, 8)
            layout.append((name, at, struct.Struct('=' + form)))
            at += size
    return layout


# struct taskstats of linux/taskstats.h, up to version 14.
_TASKSTATS = _layout(
    ('H', 'version'), ('I', 'ac_exitcode'), ('B', 'ac_flag ac_nice'),
    ('Q', 'cpu_count cpu_delay_total blkio_count blkio_delay_total swapin_count swapin_delay_total cpu_run_real_total '
          'cpu_run_virtual_total'),
    ('32s', 'ac_comm'), ('B7x', 'ac_sched'), ('I', 'ac_uid ac_gid ac_pid ac_ppid ac_btime'),
    ('Q', 'ac_etime ac_utime ac_stime ac_minflt ac_majflt coremem virtmem hiwater_rss hiwater_vm read_char write_char '
          'read_syscalls write_syscalls read_bytes write_bytes cancelled_write_bytes nvcsw nivcsw ac_utimescaled '
          'ac_stimescaled cpu_scaled_run_real_total freepages_count freepages_delay_total thrashing_count '
          'thrashing_delay_total ac_btime64 compact_count compact_delay_total'),
    ('I', 'ac_tgid'),
    ('Q', 'ac_tgetime ac_exe_dev ac_exe_inode wpcopy_count wpcopy_delay_total irq_count irq_delay_total'))


def _taskstats(data, at, end):
    """A dict of the fields that this kernel has, delays in ns; of version 15, which has others in between, the version."""
    version, = struct.unpack_from('=H', data, at)
    if version == 15:
        return {'version': version}
    stats = {name: form.unpack_from(data, at + off)[0] for name, off, form in _TASKSTATS if off + form.size <= end - at}
    if 'ac_comm' in stats:
        stats['ac_comm'] = _text(stats['ac_comm'].partition(b'\0')[0])
    return stats


def _bytes(data, at, end):
    return data[at:end]


# By number of the attribute: field of the Task, bytes there must be, how to read them; and whether more of them, from
# an attribute of the same number in the same or the next message, are added to those there are.
_READERS = {number: (_AT[field], least, read, joins) for number, field, least, read, joins in (
    (0, 'base', _BASE.size, _base, False),
    (1, 'cred', _CRED.size, lambda data, at, end: Cred._make(_CRED.unpack_from(data, at)), False),
    (2, 'mappings', 0, _mappings, True),
    (4, 'stat', _STAT.size, lambda data, at, end: Stat._make(_STAT.unpack_from(data, at)), False),
    (5, 'cmdline', 0, _bytes, True),
    (6, 'statm', _STATM.size, lambda data, at, end: Statm._make(_STATM.unpack_from(data, at)), False),
    (32, 'taskstats', 2, _taskstats, False),
    (33, 'groups', 0, _bytes, True),  # read when they are whole, like files
    (34, 'sched', _SCHED.size, lambda data, at, end: Sched._make(_SCHED.unpack_from(data, at)), False),
    (35, 'io', _IO.size, lambda data, at, end: Io._make(_IO.unpack_from(data, at)), False),
    (36, 'cgroups', 0, _cgroups, True),
    (37, 'namespaces', _NS.size, _namespaces, False),
    (38, 'files', 0, _bytes, True),
    (39, 'fd_count', _FD_COUNT.size, _fd_count, False),
    (40, 'fds', 0, _fds, True),
    (41, 'rollup', _ROLLUP.size, lambda data, at, end: Rollup._make(_ROLLUP.unpack_from(data, at)), False),
    (42, 'environ', 0, _bytes, True),
    (43, 'misc', _MISC.size, _misc, False),
    (44, 'missing', _MISSING.size, lambda data, at, end: _MISSING.unpack_from(data, at)[0], False),
)}


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
                fields = [pid, tgid, *_NOTHING]
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
                if fields[_GROUPS_AT] is not None:
                    fields[_GROUPS_AT] = _groups(fields[_GROUPS_AT])
                if fields[_FILES_AT] is not None:
                    fields[_FILES_AT] = _files(fields[_FILES_AT])
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

    def some(self, pids, groups=BASE):
        """The tasks `pids` that there are and that may be seen, in that order, each once."""
        pids = [pid for pid in dict.fromkeys(map(operator.index, pids)) if 0 <= pid <= _NONE]
        return [task for at in range(0, len(pids), _SET_MAX)
                for task in decode(self._ask(SET, 0, groups, pids[at:at + _SET_MAX]))]

    def subtree(self, pid, groups=BASE):
        """The process of `pid`, its children, theirs, and so on, ascending. ProcessLookupError: there is no such task."""
        return list(decode(self._ask(SUBTREE, pid, groups)))

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

    def process_iter(self, attrs=None, ad_value=None, pids=None):
        """Yields a `Process` for each process, as psutil.process_iter does; `attrs` are keys of `ATTRS`, or None for `USUAL`;
        with `pids` of these processes only.

        `ad_value` stands for what a zombie has not, what the caller may not know, and what could not be read in time.
        """
        names = list(USUAL if attrs is None else attrs)
        unknown = [name for name in names if name not in ATTRS]
        if unknown:
            raise ValueError(f'{unknown} cannot be asked for; there are {list(ATTRS)}')
        groups = BASE | MISSING
        for name in names:
            groups |= ATTRS[name][0]
        wanted = [(name, *ATTRS[name]) for name in names]
        cut_short = 'name' in names and not groups & CMDLINE
        ahead = self._ahead() if 'create_time' in names else 0
        for task in decode(self._ask(ALL, 0, groups)) if pids is None else self.some(pids, groups):
            late = task.missing or 0
            lacking = (BASE if task.base is None else 0) | (CRED if task.cred is None else 0) | (STAT if task.stat is None else 0)
            if lacking & groups & ~late:
                continue  # It ended when it had been sent in part.
            if cut_short and task.base and len(task.base.comm) >= 15:
                task = self._with_cmdline(task)
            info = {name: ad_value if late & needs else value(task, ad_value) for name, needs, value in wanted}
            if ahead and task.sched and not late & SCHED:
                info['create_time'] += ahead
            yield Process(task.pid, info)

    def _ahead(self):
        """Seconds that the boot of this process' time namespace lies before the one that the service counts from."""
        offset = _time_offset()
        if not offset:
            return 0
        own = self.one(os.getpid(), SCHED).sched
        with open('/proc/self/stat', 'rb') as file:
            here = int(file.read().rpartition(b')')[2].split()[19]) / _TICKS
        ahead = here - own.start_time / 10**9 if own else offset
        return 0 if abs(ahead) < abs(ahead - offset) else offset

    def _with_cmdline(self, task):
        """Only the command line tells how a name of 15 bytes goes on."""
        try:
            return task._replace(cmdline=self.one(task.pid, CMDLINE).cmdline)
        except (ProcessLookupError, PermissionError):
            return task

    def _ask(self, strategy, pid, groups, pids=()):
        """What the reads of the whole answer gave."""
        pid, groups = operator.index(pid), operator.index(groups)
        if not 0 <= groups < 1 << 64:
            raise ValueError(f'{groups:#x} is no mask of groups')
        if not 0 <= pid <= _NONE:
            raise _no_task(pid)
        with self._lock:
            until = None
            while True:
                had = self._is_open()
                try:
                    if not had:
                        self._open()
                    return self._dump(strategy, pid, groups, pids)
                except OSError as e:
                    self._close()
                    if e.errno == errno.ESRCH:
                        raise _no_task(pid) from None
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

    def _dump(self, strategy, pid, groups, pids=()):
        self._seq = self._seq + 1 & 0xffffffff
        ids = struct.pack(f'={1 + len(pids)}I', len(pids), *pids) if strategy == SET else b''
        length = _REQUEST.size + len(ids)
        request = _REQUEST.pack(length, _GET, 1, self._seq, 0, groups, strategy, pid, 0) + ids
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
pfullmem = namedtuple('pfullmem', pmem._fields + ('uss', 'pss', 'swap'))  # bytes
pcputimes = namedtuple('pcputimes', 'user system children_user children_system iowait')  # seconds
pctxsw = namedtuple('pctxsw', 'voluntary involuntary')
pio = namedtuple('pio', 'read_count write_count read_bytes write_bytes read_chars write_chars')
popenfile = namedtuple('popenfile', 'path fd position mode flags')
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
    # A service of old does not know what was waited for I/O.
    waited = task.sched.blkio_delay if task.sched else 0
    return pcputimes._make([ticks / _TICKS for ticks in (*task.stat[4:8], waited)])


def _of(group, value):
    """How to make an attribute of one group, which the caller may lack."""
    def make(task, ad_value):
        got = getattr(task, group)
        return ad_value if got is None else value(got)
    return make


def _boot_time(known=[]):
    """Seconds since the epoch; asked for once, so that the same process always gives the same create_time."""
    if not known:
        try:
            with open('/proc/stat', 'rb') as file:
                known.extend(float(line.split()[1]) for line in file if line.startswith(b'btime'))
        except OSError:  # Mounted with subset=pid, /proc has processes alone.
            known.append(float(int(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))))
    return known[0]


def _time_offset():
    """Seconds by which the boot of this process' time namespace is moved (time_namespaces(7))."""
    try:
        with open('/proc/self/timens_offsets', encoding='ascii') as file:
            words = (line.split() for line in file)
            return next((int(w[1]) + int(w[2]) / 10**9 for w in words if w[0] in ('boottime', '7')), 0)
    except OSError:
        return 0


def _terminal(sched, known={}):
    """Its path below /dev; None without one. New ones are looked for when there are any."""
    number = sched.tty_nr
    if number and number not in known:
        for path in glob.glob('/dev/tty*') + glob.glob('/dev/pts/*'):
            try:
                known[os.stat(path).st_rdev] = path
            except OSError:  # It went, or may not be looked at.
                pass
        known.setdefault(number, None)
    return known.get(number)


def _undeleted(path):
    """Without the ` (deleted)` of the kernel; it may have become part of a name that is there."""
    return path[:-10] if path.endswith(' (deleted)') and not os.path.lexists(path) else path


def _exe(task, ad_value):
    if task.files is None or task.base.state == 'Z':
        return ad_value
    return _undeleted(task.files.exe or '')


def _cwd(task, ad_value):
    return ad_value if task.files is None or task.files.cwd is None else _undeleted(task.files.cwd)


def _mode(flags):
    """As open() takes it; '' with access mode 3, which neither reads nor writes (open(2))."""
    mode = ('r', 'w', 'w+', '')[flags & os.O_ACCMODE]
    return (mode.replace('w', 'a') if flags & os.O_APPEND else mode).replace('w+', 'r+')


def _open_files(fds):
    files = []
    for fd, kind, flags, pos, _, _, _, path in fds:
        if kind == 8 and path.startswith('/'):
            if path.endswith(' (deleted)'):
                path = _undeleted(path)
                if not os.path.isfile(path):
                    continue
            files.append(popenfile(path, fd, pos, _mode(flags), flags))
    return files


def _environ(task, ad_value):
    if task.environ is None:
        return ad_value
    variables = {}
    for entry in _text(task.environ).split('\0')[:-1]:
        if not entry:
            break
        name, equals, value = entry.partition('=')
        if name and equals:
            variables[name] = value
    return variables


def _memory_full_info(task, ad_value):
    r = task.rollup
    if r is None:
        # A zombie and a kernel thread have no memory. Whoever may not know of the memory may not know of the I/O, either.
        return pfullmem(*_NO_MEMORY, 0, 0, 0) if task.statm is None and task.io else ad_value
    unique = r.private_clean + r.private_dirty + r.private_hugetlb
    return pfullmem(*_memory_info(task, ad_value), unique, r.pss, r.swap)


def _memory_percent(task, ad_value):
    return _memory_info(task, ad_value).rss / (os.sysconf('SC_PHYS_PAGES') * _PAGE) * 100


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
    'cpu_times': (STAT | SCHED, _cpu_times),
    'memory_info': (STATM, _memory_info),
    'cmdline': (BASE | CMDLINE, _arguments),
    'create_time': (SCHED, _of('sched', lambda sched: sched.start_time * _TICKS // 10**9 / _TICKS + _boot_time())),
    'nice': (SCHED, _of('sched', lambda sched: sched.nice)),
    'cpu_num': (SCHED, _of('sched', lambda sched: sched.processor)),
    'terminal': (SCHED, _of('sched', _terminal)),
    'num_ctx_switches': (SCHED, _of('sched', lambda sched: pctxsw(*sched[1:3]))),
    'memory_percent': (STATM, _memory_percent),
    'memory_full_info': (STATM | ROLLUP | IO, _memory_full_info),
    'io_counters': (IO, _of('io', lambda io: pio(io.syscr, io.syscw, io.read_bytes, io.write_bytes, io.rchar, io.wchar))),
    'num_fds': (FD_COUNT, _of('fd_count', lambda count: count.open)),
    'open_files': (FD, _of('fds', _open_files)),
    'exe': (BASE | FILES, _exe),
    'cwd': (FILES, _cwd),
    'environ': (ENVIRON, _environ),
}

# What every service has, and gives at once.
USUAL = list(ATTRS)[:11]

# ---- The service at PATH, and the program -------------------------------------------------------------------------

_service = TaskDiag()
all = _service.all
all_threads = _service.all_threads
threads = _service.threads
children = _service.children
some = _service.some
subtree = _service.subtree
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
        'time': lambda info: -sum(info['cpu_times'][:2]) if info['cpu_times'] else 0,
    }

    def cell(info, name):
        value = info[name]
        if value is None:
            return '-'
        if name == 'memory_info':
            return value.rss // 1024
        return f'{sum(value[:2]):.2f}' if name == 'cpu_times' else value

    columns = (('pid', 'PID', '>7'), ('ppid', 'PPID', '>7'), ('username', 'USER', '12'), ('status', 'STATUS', '12'),
               ('num_threads', 'THR', '>4'), ('memory_info', 'RSS/KiB', '>9'), ('cpu_times', 'TIME/s', '>9'))
    lines = [[*(format(heading, form) for _, heading, form in columns), 'COMMAND']]
    for info in sorted(infos, key=order[options.s])[:max(options.n, 0)]:
        command = ' '.join(info['cmdline'] or ()) or f'[{info["name"] or "?"}]'
        lines.append([*(_plain(format(cell(info, name), form)) for name, _, form in columns), _plain(command)[:100]])
    try:
        print(*map(' '.join, lines), sep='\n', flush=True)
    except BrokenPipeError:  # Whoever reads this may leave early.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _plain(text):
    """In ASCII, what a terminal would obey, hide or read as something else escaped as in a string of Python."""
    return text.encode('unicode_escape').decode('ascii')


if __name__ == '__main__':
    main()
