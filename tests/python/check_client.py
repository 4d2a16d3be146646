"""Checks examples/python/task_diag.py from within: each command is a function, its arguments are those that follow.

The directory of task_diag.py is in PYTHONPATH. What is wrong is an exception, and so an exit status.
"""

import errno
import multiprocessing
import os
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
        ours = {process.pid: process.info for process in service.process_iter(attrs, ad_value='none')}[pid]
        theirs = psutil.Process(pid).as_dict(attrs, ad_value='none')
        # Of a zombie, older versions say that its command line is empty.
        if theirs['status'] == 'zombie' and theirs['cmdline'] == []:
            theirs['cmdline'] = 'none'
        # Other fields are there in some versions only.
        for one in (ours, theirs):
            memory = one['memory_info']
            one['memory_info'] = [memory.rss, memory.vms, memory.shared, memory.text, memory.data]
        # What it waited for I/O is not to be had; the others are the same to a tick or two.
        ours['cpu_times'], theirs['cpu_times'] = list(ours['cpu_times']), list(theirs['cpu_times'][:4])
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


def ways(path, parent):
    """Every way to ask; threads and children of one process."""
    service = task_diag.TaskDiag(path)
    parent = int(parent)
    tids = sorted(int(tid) for tid in os.listdir(f'/proc/{parent}/task'))
    assert sorted(task.pid for task in service.threads(parent)) == tids
    assert {task.tgid for task in service.threads(parent, 0)} == {parent}
    found = [task.pid for task in service.all_threads() if task.tgid == parent]
    assert sorted(found) == tids, found
    children = sorted(task.pid for tid in tids for task in service.children(tid))
    expected = sorted(int(pid) for tid in tids for pid in
                      Path(f'/proc/{parent}/task/{tid}/children').read_text().split())
    assert children == expected and os.getpid() in children
    pids = [task.pid for task in service.all()]
    assert pids == sorted(pids) and {parent, os.getpid()} <= set(pids)
    task = service.one(os.getpid(), task_diag.BASE | task_diag.STATM)
    assert task.base.ppid == parent and task.statm.total_rss > 0 and task.cred is None and task.mappings is None
    kernel = service.one(2, task_diag.BASE | task_diag.STATM | task_diag.CMDLINE)
    assert kernel.base.comm == 'kthreadd' and kernel.statm is None and kernel.cmdline is None
    groups = dict(word.split('=') for word in service.info()['groups'].split())
    for name, number in groups.items():
        assert getattr(task_diag, name) == 1 << int(number), name
    pid = int(Path('/proc/sys/kernel/pid_max').read_text()) + 1
    for ask in (service.one, service.threads, service.children):
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
