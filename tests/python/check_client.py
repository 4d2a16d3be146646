"""Checks examples/python/task_diag.py from within: each command is a function, its arguments are those that follow.

The directory of task_diag.py is in PYTHONPATH. What is wrong is an exception, and so an exit status.
"""

import errno
import multiprocessing
import os
import struct
import sys
import threading
import time
from pathlib import Path

import task_diag


def until_equal(what, look):
    """Compares the two values that `look` gives, again and again: what is shared with others does not stand still."""
    for _ in range(40):
        found, wanted = look()
        if found == wanted:
            return
        time.sleep(0.005)
    if isinstance(found, list):
        found, wanted = ([a for a in one if a not in other] for one, other in ((found, wanted), (wanted, found)))
    raise AssertionError(f'{what}: found {found}, wanted {wanted}'[:4000])


def near(found, wanted, ticks):
    """Times, in a list, that may differ by so many clock ticks each."""
    return all_of(abs(a - b) <= ticks / task_diag._TICKS + 1e-6 for a, b in zip(found, wanted))


def all_of(values):
    return not [value for value in values if not value]


def psutil(path, ticks, *pids):
    """Field by field what psutil says, of processes that stand still."""
    import psutil

    service = task_diag.TaskDiag(path)
    attrs = list(task_diag.ATTRS)

    def infos(pid):
        ours = {process.pid: process.info for process in service.process_iter(attrs, 'none', [pid])}[pid]
        theirs = {}
        for attr in attrs:
            try:
                theirs.update(psutil.Process(pid).as_dict([attr], ad_value='none'))
            except psutil.NoSuchProcess:
                # Where there is no memory newer kernels say that there is no such process.
                theirs[attr] = 'none'
        # Of a zombie, older versions say that its command line is empty.
        if theirs['status'] == 'zombie' and theirs['cmdline'] == []:
            theirs['cmdline'] = 'none'
        # As they say that its program has no name, and that who has no memory is a zombie.
        if theirs['status'] == 'zombie' and theirs['exe'] == '':
            theirs['exe'] = 'none'
        if theirs['memory_full_info'] == 'none' and not any(ours['memory_full_info']):
            ours['memory_full_info'] = 'none'
        # Other fields are there in some versions only.
        for one in (ours, theirs):
            memory = one['memory_info']
            one['memory_info'] = [memory.rss, memory.vms, memory.shared, memory.text, memory.data]
            full = one['memory_full_info']
            if full != 'none':
                one['memory_full_info'] = [full.rss, full.vms, full.shared, full.uss, full.pss, full.swap]
            one['memory_percent'] = round(one['memory_percent'], 6)
        # A process with a share of memory may get more or less of it by what others do.
        ours['cpu_times'], theirs['cpu_times'] = list(ours['cpu_times']), list(theirs['cpu_times'])
        if near(ours['cpu_times'], theirs['cpu_times'], int(ticks)):
            ours['cpu_times'] = theirs['cpu_times']
        return ours, theirs

    for pid in pids:
        until_equal(pid, lambda: infos(int(pid)))

    # The long name, too, where no command line is asked for.
    names = {process.pid: process.info['name'] for process in service.process_iter(['name'])}
    for pid in pids:
        name = psutil.Process(int(pid)).name()
        assert names[int(pid)] == name, (pid, name)

    # As smaps writes a name, and psutil shows it.
    def shown(name):
        return name.replace('\n', '\\012').replace(' (deleted)', '').strip() or '[anon]'

    def maps(pid):
        task = service.one(pid, task_diag.VMA | task_diag.VMA_STAT)
        ours = [(m.start, m.end, shown(m.name), m.stat.resident, m.stat.swap, m.stat.pss >> 12 >> 10 << 10)
                for m in task.mappings or []]
        theirs = [(*(int(address, 16) for address in m.addr.split('-')), shown(m.path), m.rss, m.swap, m.pss)
                  for m in psutil.Process(pid).memory_maps(grouped=False) if m.path != '[vsyscall]']
        return ours, theirs

    compared = 0
    for pid in map(int, pids):
        if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            until_equal(f'mappings of {pid}', lambda: maps(pid))
            compared += len(maps(pid)[0])
    assert compared > 1000, compared


def proc(path, ticks, *pids):
    """The raw fields, against the files of /proc."""
    service = task_diag.TaskDiag(path)
    everything = task_diag.BASE | task_diag.CRED | task_diag.STAT | task_diag.CMDLINE

    def fields(pid):
        task = service.one(pid, everything)
        raw = Path(f'/proc/{pid}/stat').read_bytes()
        words = raw[raw.rindex(b')') + 2:].split()
        number = [None] * 3 + [word.decode() if at == 0 else int(word) for at, word in enumerate(words)]
        status = dict(line.split(':', 1) for line in
                      Path(f'/proc/{pid}/status').read_text(errors='surrogateescape').split('\n') if ':' in line)
        ids = [int(word) for key in ('Uid', 'Gid') for word in status[key].split()]
        sets = [int(status[key], 16) for key in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd')]
        comm = Path(f'/proc/{pid}/comm').read_bytes()[:-1].decode(errors='surrogateescape')
        base = (pid, pid, number[4], int(status['TracerPid']), number[6], number[5], number[3], comm)
        faults_and_times = [number[at] for at in (10, 11, 12, 13, 14, 15, 16, 17, 20)]
        stat = list(task.stat)
        if all_of(abs(a - b) <= int(ticks) for a, b in zip(stat[4:8], faults_and_times[4:8])):
            stat[4:8] = faults_and_times[4:8]
        ours = (task.pid, task.tgid, tuple(task.base), list(task.cred), stat, task.cmdline or b'')
        return ours, (pid, pid, base, sets + ids, faults_and_times, Path(f'/proc/{pid}/cmdline').read_bytes())

    for pid in pids:
        until_equal(pid, lambda: fields(int(pid)))
        until_equal(f'{pid}, from group 32 on', lambda: own_groups(service, int(pid)))


def own_groups(service, pid):
    """The groups that the kernel patch never had, and what the files of /proc say."""
    proc = Path(f'/proc/{pid}')
    task = service.one(pid, task_diag.BASE | sum(1 << number for number in range(33, 44)))
    ours, theirs = {}, {}

    def put(name, found, wanted):
        ours[name], theirs[name] = found, wanted

    def text(name):
        try:
            return (proc / name).read_bytes()
        except OSError:
            return b''

    def link(name):
        try:
            return os.readlink(proc / name)
        except OSError:
            return None

    def lines(name):
        pairs = (line.split(':', 1) for line in text(name).decode(errors='surrogateescape').split('\n') if ':' in line)
        return {key: value.strip() for key, value in pairs}

    status, zombie = lines('status'), task.base.state == 'Z'
    if 'Groups' in status:
        put('gids', task.groups.gids, tuple(int(gid) for gid in status['Groups'].split()))
        put('rights', [task.groups.cap_ambient, task.groups.no_new_privs, task.groups.seccomp],
            [int(status['CapAmb'], 16), status['NoNewPrivs'] == '1', int(status['Seccomp'])])
    number = text('stat')[text('stat').rindex(b')') + 2:].split()
    number = [None] * 4 + [int(word) for word in number[1:]]
    sched = task.sched
    put('start', sched.start_time // (10**9 // task_diag._TICKS), number[22])
    put('sched', [sched.flags, sched.nice, sched.priority, sched.rt_priority, sched.policy, sched.processor, sched.tty_nr,
                  sched.tpgid, sched.exit_signal, sched.guest_time, sched.children_guest_time, sched.blkio_delay],
        [number[at] for at in (9, 19, 18, 40, 41, 39, 7, 8, 38, 43, 44, 42)])
    put('switches', list(sched[1:3]), [int(status[f'{kind}_ctxt_switches']) for kind in ('voluntary', 'nonvoluntary')])
    put('io', list(task.io) if task.io else [], [int(value) for value in lines('io').values()])
    cgroups = [line.split(':', 2) for line in text('cgroup').decode().splitlines()]
    put('cgroups', [list(cgroup) for cgroup in task.cgroups or []],
        [[int(number), names, path] for number, names, path in cgroups])
    if not zombie:
        names = task_diag.Namespaces._fields[:10]
        wanted = [link(f'ns/{name}') for name in names]
        put('namespaces', [f'{inode}' if inode else None for inode in task.namespaces[:10]],
            [name and name[name.index('[') + 1:-1] for name in wanted])
        put('pids', list(task.namespaces.pids), [int(pid) for pid in status['NSpid'].split()])
        put('files', list(task.files), [link(name) for name in ('exe', 'cwd', 'root')])
        fds = sorted(int(fd) for fd in os.listdir(proc / 'fd'))
        put('open', task.fd_count.open, len(fds))
        limit = next(line for line in text('limits').decode().splitlines() if line.startswith('Max open files'))
        put('limits', list(task.fd_count[1:]), [None if word == 'unlimited' else int(word) for word in limit.split()[3:5]])
        put('fds', [(fd.fd, fd.name, fd.pos, fd.flags, fd.inode) for fd in task.fds],
            [(fd, link(f'fd/{fd}'), int(lines(f'fdinfo/{fd}')['pos']), int(lines(f'fdinfo/{fd}')['flags'], 8),
              int(lines(f'fdinfo/{fd}')['ino'])) for fd in fds])
        put('types', [fd.type for fd in task.fds], [os.stat(proc / f'fd/{fd}').st_mode >> 12 for fd in fds])
    rollup = [int(value.split()[0]) * 1024 for value in lines('smaps_rollup').values() if value.endswith('kB')]
    if task.rollup is None:
        put('rollup', [], rollup)
    else:
        # Of the same names but for underscores; /proc writes whole KiB.
        kib = {name.lower().replace('_', ''): int(value.split()[0])
               for name, value in lines('smaps_rollup').items() if value.endswith('kB')}
        found = {field.replace('_', ''): value >> 10 for field, value in task.rollup._asdict().items()}
        both = kib.keys() & found.keys()
        assert len(both) >= 18, (kib, found)
        put('rollup', [found[name] for name in both], [kib[name] for name in both])
    put('environ', task.environ or b'', text('environ'))
    misc, none = task.misc, 0xffffffff
    put('misc', [misc.oom_score, misc.oom_score_adj], [int(text(name)) for name in ('oom_score', 'oom_score_adj')])
    for name, value in (('loginuid', misc.loginuid), ('sessionid', misc.sessionid)):
        put(name, none if value is None else value, int(text(name) or none))
    put('wchan', misc.wchan or '0', text('wchan').decode() or '0')
    put('label', misc.label or '', text('attr/current').decode().rstrip('\n\0'))
    return ours, theirs


def ways(path, parent):
    """Every way to ask; threads and children of one process."""
    service = task_diag.TaskDiag(path)
    parent = int(parent)

    # The parent's other threads start and end, and so do their children.
    def family():
        tids = sorted(int(tid) for tid in os.listdir(f'/proc/{parent}/task'))
        found = sorted(task.pid for task in service.threads(parent))
        among_all = sorted(task.pid for task in service.all_threads() if task.tgid == parent)
        try:
            children = sorted(task.pid for tid in tids for task in service.children(tid))
            expected = sorted(int(pid) for tid in tids for pid in
                              Path(f'/proc/{parent}/task/{tid}/children').read_text().split())
        except (ProcessLookupError, FileNotFoundError) as e:
            return e, None
        return (found, among_all, children, os.getpid() in children), (tids, tids, expected, True)

    until_equal(f'threads and children of {parent}', family)
    assert {task.tgid for task in service.threads(parent, 0)} == {parent}
    # Process 1 may be kept from everyone by a security module.
    first = min(task.pid for task in service.all(0) if task.pid not in (os.getpid(), parent))
    some = [os.getpid(), 2147483647, first, os.getpid(), parent]
    assert [task.pid for task in service.some(some)] == [os.getpid(), first, parent]
    assert service.some([]) == []
    # More ids than one request holds.
    many = service.some(range(1, max(40_000, parent + 1)))
    assert [task.pid for task in many] == sorted({task.pid for task in many}) and {first, parent} <= {task.pid for task in many}

    # Who is seen after the end of its parent is somebody else's child by then.
    def tops():
        tree = {task.pid: task.base.ppid for task in service.subtree(parent)}
        assert list(tree) == sorted(tree) and {parent, os.getpid()} <= tree.keys(), tree
        return [pid for pid, ppid in tree.items() if ppid not in tree], [parent]

    until_equal(f'what comes from {parent}', tops)
    assert [task.pid for task in service.subtree(os.getpid())] == [os.getpid()]
    pids = [task.pid for task in service.all()]
    assert pids == sorted(pids) and {parent, os.getpid()} <= set(pids)
    task = service.one(os.getpid(), task_diag.BASE | task_diag.STATM)
    assert task.base.ppid == parent and task.statm.total_rss > 0 and task.cred is None and task.mappings is None
    kernel = service.one(2, task_diag.BASE | task_diag.STATM | task_diag.CMDLINE)
    assert kernel.base.comm == 'kthreadd' and kernel.statm is None and kernel.cmdline is None
    groups = dict(word.split('=') for word in service.info()['groups'].split())
    for name, number in groups.items():
        assert getattr(task_diag, name) == 1 << int(number), name
    for word in service.info()['strategies'].split():
        name, number = word.split('=')
        # The other names are those of functions.
        if name in ('SET', 'SUBTREE'):
            assert getattr(task_diag, name) == int(number), name
    assert {'SET=16', 'SUBTREE=17'} <= set(service.info()['strategies'].split())
    pid = int(Path('/proc/sys/kernel/pid_max').read_text()) + 1
    for ask in (service.one, service.threads, service.children, service.subtree):
        try:
            ask(pid)
        except ProcessLookupError as e:
            assert e.errno == errno.ESRCH
        else:
            raise AssertionError('a task that is not there')
    try:
        list(service.process_iter(['pid', 'magic']))
    except ValueError as e:
        assert 'magic' in str(e)
    else:
        raise AssertionError('an attribute that is not there')
    # The mistakes have left nothing behind; and threads and forked children have their own conversations.
    together(service)


def together(service):
    def ask():
        for _ in range(20):
            assert service.one(os.getpid()).pid == os.getpid()

    wrong = []

    def ask_in_thread():
        try:
            ask()
        except BaseException as e:
            wrong.append(e)

    askers = [threading.Thread(target=ask_in_thread) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert not wrong, wrong
    # Nobody asks in the parent while it forks.
    askers = [multiprocessing.get_context('fork').Process(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    ask()
    for asker in askers:
        asker.join()
    assert [asker.exitcode for asker in askers] == [0] * 4


def hidden(path, pid):
    """Asks as a user who may not see the task."""
    os.setgroups([])
    os.setresgid(4711, 4711, 4711)
    os.setresuid(4711, 4711, 4711)
    service = task_diag.TaskDiag(path)
    try:
        service.one(int(pid))
    except PermissionError as e:
        assert pid in str(e)
    else:
        raise AssertionError('a task that may not be seen')
    assert int(pid) not in [task.pid for task in service.all()]
    assert [task.pid for task in service.some([int(pid), os.getpid()])] == [os.getpid()]
    assert service.subtree(int(pid)) == []


def odd(path, zombie):
    """What few processes have, and ids that no task has, end nothing and are told apart."""
    service = task_diag.TaskDiag(path)
    for pid in (-1, 2**32, 2**64, -2**70):
        for ask in (service.one, service.threads, service.children, service.subtree):
            try:
                ask(pid)
            except ProcessLookupError as e:
                assert e.errno == errno.ESRCH and str(pid) in str(e)
            else:
                raise AssertionError(f'{ask} of {pid}')
    own = os.getpid()
    assert [task.pid for task in service.some([-1, own, 2**32, 2**70])] == [own]
    assert [process.pid for process in service.process_iter(['pid'], pids=[own, -1])] == [own]
    for wrong, ask in ((TypeError, lambda: service.one('1')), (TypeError, lambda: service.some([1.5])),
                       (ValueError, lambda: service.all(-1)), (ValueError, lambda: service.all(1 << 64))):
        try:
            ask()
        except wrong:
            pass
        else:
            raise AssertionError(wrong)
    # Neither read nor written: for ioctl alone.
    fd = os.open(__file__, 3)
    attrs = ['open_files', 'exe', 'memory_full_info', 'memory_info']
    infos = {process.pid: process.info for process in service.process_iter(attrs, 'none')}
    assert (__file__, '') in [(file.path, file.mode) for file in infos[own]['open_files'] if file.fd == fd], infos[own]
    os.close(fd)
    # As with psutil from version 7 on.
    for pid, exe in ((2, ''), (int(zombie), 'none')):
        assert infos[pid]['exe'] == exe and infos[pid]['open_files'] == [], infos[pid]
        assert not any(infos[pid]['memory_full_info']) and not any(infos[pid]['memory_info']), infos[pid]


class Made(task_diag.TaskDiag):
    """Answers with these bytes, whatever is asked."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def _ask(self, *_):
        return [self.answer]

    def info(self):
        return {}


def strange():
    """Whatever a task is like, process_iter yields it, and with it all others."""
    random = __import__('random').Random(5)
    number = lambda bits: random.choice((0, 1, (1 << bits) - 1, random.getrandbits(bits)))
    names = (b'', b'x', b'\xff\xc3(', b'a) R 1 \n', b'15 bytes or mor', b' ', b'/a (deleted)', b'\x1b[2J', b'\0')
    name = lambda: random.choice(names)

    def attribute(kind, payload):
        return struct.pack('=HH', 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)

    def fds():
        text = name().replace(b'\0', b'') + b'\0'
        room = -(40 + len(text)) % 4
        head = task_diag._FD.pack(number(64), number(64), number(32), number(32), number(32), number(32), 40 + len(text) + room,
                                  40, len(text), random.choice((8, 10, 200)))
        return head + text + bytes(room)

    def task(pid):
        base = struct.pack('=6IB16s3x', pid, pid, number(32), number(32), number(32), number(32), random.choice((0, 6, 8, 200)),
                           name())
        struct_of = {1: struct.pack('=4Q8I', *(number(64) for _ in range(4)), *(number(32) for _ in range(8))),
                     4: struct.pack('=8QI4x', *(number(64) for _ in range(8)), number(32))}
        may = {5: random.choice((name() + b'\0', name() + b'\0' + name(), b'', name())),
               6: struct.pack('=15Q', *(number(64) for _ in range(15))),
               34: struct.pack('=6QIiiIIiiii4x', *(number(60) for _ in range(6)), number(32), number(31), number(31),
                               number(32), number(32), number(31), -number(31), number(31), number(31)),
               35: struct.pack('=7Q', *(number(64) for _ in range(7))),
               38: task_diag._FILES.pack(12, 4, 16, 2, 0, 0) + b'/ab\0/\0',
               39: struct.pack('=I4x2Q', number(32), number(64), number(64)),
               40: b''.join(fds() for _ in range(3)),
               41: struct.pack('=22Q', *(number(64) for _ in range(22))),
               42: random.choice((b'A=1\0', b'=\0\0x', b'\xff', b'', b'A=1\0B')),
               43: struct.pack('=iiII4H', -1, 1, number(32), number(32), 0, 0, 0, 0)}
        late = 0
        parts = {0: base, **struct_of, **may}
        for kind in list(parts):
            if random.random() < 0.2 and kind not in (0, 1, 4):
                del parts[kind]
            elif random.random() < 0.1:
                del parts[kind]
                late |= 1 << kind
        parts[44] = struct.pack('=Q', late)
        body = b''.join(attribute(kind, payload) for kind, payload in parts.items())
        return struct.pack('=IHHIIIII', 28 + len(body), 0xd101, 2, 0, 0, pid, pid, 0) + body

    count = 3000
    service = Made(b''.join(task(pid) for pid in range(1, count + 1)))
    infos = [process.info for process in service.process_iter(task_diag.ATTRS, 'none')]
    assert [info['pid'] for info in infos] == list(range(1, count + 1)), len(infos)
    assert {info['status'] for info in infos} > {'none', '?', 'zombie'} and all_of(len(info) for info in infos)


def start(path, pid):
    """When it was started."""
    service = task_diag.TaskDiag(path)
    print(*[process.info['create_time'] for process in service.process_iter(['create_time'], pids=[int(pid)])])


def in_exec(path, pid):
    """A live process of which not all could be read in time is yielded; gives how many values were late."""
    service = task_diag.TaskDiag(path)
    attrs = ['pid', 'name', 'uids', 'cpu_times', 'num_threads', 'cmdline']
    infos = {process.pid: process.info for process in service.process_iter(attrs, ad_value='late')}
    assert int(pid) in infos and os.getpid() in infos
    print(list(infos[int(pid)].values()).count('late'))


def hung(path, pid):
    """What could not be read in time is `ad_value`, and no error."""
    service = task_diag.TaskDiag(path)
    infos = {process.pid: process.info for process in service.process_iter(['name', 'cmdline'], ad_value='late')}
    task = service.one(int(pid), task_diag.BASE | task_diag.CMDLINE | task_diag.MISSING)
    missing = bool((task.missing or 0) & task_diag.CMDLINE)
    info = infos[int(pid)]
    assert missing == (task.cmdline is None) == (info['cmdline'] == 'late'), (task, info)
    assert info['name'].startswith(task.base.comm)
    print('late' if missing else 'in time')


def restart(path):
    """Asks; and asks again for each line that comes."""
    service = task_diag.TaskDiag(path, patience=0.3)
    while True:
        try:
            answer = service.one(os.getpid()).pid
            print('there' if answer == os.getpid() else answer, flush=True)
        except task_diag.Unavailable as e:
            print(errno.errorcode[e.errno], e, flush=True)
        if not sys.stdin.readline():
            return


def absent(*paths):
    """Says why there is no interface at each path."""
    for path in paths:
        try:
            task_diag.TaskDiag(path).all()
        except task_diag.Unavailable as e:
            print(errno.errorcode[e.errno], e.strerror)


def answers(directory, count):
    """Decodes answers out of files: `malformed`, or the number of tasks, of each."""
    for number in range(int(count)):
        try:
            print(len(list(task_diag.decode([Path(directory, str(number)).read_bytes()]))))
        except task_diag.ProtocolError:
            print('malformed')


if __name__ == '__main__':
    globals()[sys.argv[1]](*sys.argv[2:])
