/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* One task into its record. */
#pragma once
#include "kernel/find.h"
#include "tasks/abi.h"

#define MAX_CPUS 1024
#define PF_KTHREAD 0x00200000
#define CAP_DAC_OVERRIDE 1
#define CAP_DAC_READ_SEARCH 2
#define CAP_SYS_PTRACE 19

/* Set by the driver before loading. */
const volatile u32 cpus = 1, page_shift = 12;

u64 per_cpu_offset[MAX_CPUS], nominal;

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, u64);
} probe SEC(".maps");

/* Run once: how far each cpu's part of a percpu object lies from its nominal address. Learned from a map of our own,
 * as the kernel's __per_cpu_offset is hidden where KALLSYMS_ALL is off. Pointers become numbers on their way through
 * memory. */
static u32 learn_offsets(void) {
    u32 cpu, key = 0;
    *(volatile u64 *)&nominal = (u64)&probe;
    nominal = far_word(fresh(nominal) + bpf_core_field_offset(struct bpf_array, pptrs));
    bpf_for(cpu, 0, cpus) {
        void *part = bpf_map_lookup_percpu_elem(&probe, &key, cpu);
        if (!part || cpu >= MAX_CPUS) return 0;
        *(volatile u64 *)&per_cpu_offset[cpu] = (u64)part;
        *(volatile u64 *)&per_cpu_offset[cpu] -= nominal;
    }
    return 1;
}

/* Whose eyes: what every record needs to know of the reader. */
struct view {
    u64 pid_ns, user_ns, signal, daemons_pid_ns;
    /* Of its credentials: CAP_SYS_PTRACE, and how deep its user namespace lies. */
    u32 euid, capable;
    int depth;
    u64 number; /* see number() */
    u64 groups;
    u32 level, daemons_level, options;
    /* CAP_SYS_PTRACE in the initial user namespace, and so in all; and there a capability over all files, too. */
    u32 almighty, unguarded;
    /* The namespace judged last, and the answer. */
    u32 judged;
    u64 judged_ns;
    /* What is read before the record is filled: a command line (WITH_LINES), sections (bit N: group 32 + N). */
    u32 ahead, sections;
    /* Of which record it is, how much of the slot's bytes is used, how long the line is that follows there, where
     * behind it the sections stand, and how long they are; and the task's memory, credentials and program before that. */
    u32 line, used, length, sections_at, sections_length, slot;
    u64 memory, credentials, program, memory_flags;
};

static u32 number_at(u64 address, u32 level, u64 pid_ns) {
    struct pid *pid = at(struct pid, address);
    if (!level) return int_at(place(pid, numbers)); /* in the initial namespace all have one */
    if (!address || level > pid->level) return 0;
    struct upid *upid = upid_at(pid, level);
    return far_word(place(upid, ns)) == pid_ns ? far_int(place(upid, nr)) : 0;
}

static u32 number_in(const struct view *view, u64 address) {
    return number_at(address, view->level, view->pid_ns);
}

static u32 process_of(const struct view *view, struct task_struct *task) {
    if (!view->level) return task->tgid;
    return number_in(view, address_in(task->signal, pids[PIDTYPE_TGID]));
}

/* Has the reader CAP_SYS_PTRACE in this user namespace? (The kernel's cap_capable.) */
GLOBAL u32 may_ptrace_in(struct view *view, u64 address) {
    if (!view) return 0;
    if (view->almighty) return 1;
    if (address == view->judged_ns) return view->judged;
    u32 answer = 0;
    u64 ns = address;
    for (int depth = 0; depth < 34; depth++) {
        struct user_namespace *here = at(struct user_namespace, ns);
        if (ns == view->user_ns) {
            answer = view->capable;
            break;
        }
        if (!ns || here->level <= view->depth) break;
        if (address_in(here, parent) == view->user_ns && here->owner.val == view->euid) {
            answer = 1;
            break;
        }
        ns = address_in(here, parent);
    }
    view->judged_ns = address;
    view->judged = answer;
    return answer;
}

/* The letter's index of /proc/PID/stat: R S D T t X Z P I. */
static u8 state_of(u32 state, u32 exit_state) {
    enum { UNINTERRUPTIBLE = 2, REPORTED = 0x7f, NOLOAD = 0x400, RTLOCK_WAIT = 0x1000, FROZEN = 0x8000 };
    u32 bits = (state | exit_state) & REPORTED;
    if ((state & (UNINTERRUPTIBLE | NOLOAD)) == (UNINTERRUPTIBLE | NOLOAD)) bits = REPORTED + 1;
    if (state & (RTLOCK_WAIT | FROZEN)) bits = UNINTERRUPTIBLE;
    u8 index = 0;
    if (bits & 0xf0) bits >>= 4, index = 4;
    return index + (bits & 8 ? 4 : bits & 4 ? 3 : bits & 2 ? 2 : bits & 1);
}

/* a * b / c without loss, for results below 2^64: schoolbook division of the 128 bit product in digits of 32 bits. */
static u64 scale(u64 a, u64 b, u64 c) {
    if (((a | b) >> 32) == 0) return a * b / c;
    u64 low = (a & ~0u) * (b & ~0u), middle = (a >> 32) * (b & ~0u) + (low >> 32), other = (a & ~0u) * (b >> 32) + (u32)middle;
    u64 high = (a >> 32) * (b >> 32) + (middle >> 32) + (other >> 32);
    low = other << 32 | (u32)low;
    if (high >= c) return ~0ull;
    for (int bit = 32; bit; bit >>= 1) { /* bring the divisor's highest bit to the top */
        if (c >> (64 - bit)) continue;
        c <<= bit;
        high = high << bit | low >> (64 - bit);
        low <<= bit;
    }
    u64 result = 0;
    for (int half = 0; half < 2; half++) {
        u64 digit = high / (c >> 32), rest = high % (c >> 32), next = low >> 32;
        for (int i = 0; i < 2; i++)
            if (!(rest >> 32) && (digit >> 32 || digit * (u32)c > (rest << 32 | next))) digit--, rest += c >> 32;
        high = (high << 32 | next) - digit * c;
        low <<= 32;
        result = result << 32 | digit;
    }
    return result;
}

/* The kernel's cputime_adjust: the tick-sampled halves are scaled to the precise sum, never below what was shown. */
static void adjust(struct task_record *record, u64 utime, u64 stime, u64 runtime, const struct prev_cputime *shown) {
    u64 user = shown->utime, system = shown->stime;
    if (user + system < runtime) {
        u64 fair = stime == 0 ? 0 : utime == 0 ? runtime : scale(stime, runtime, stime + utime);
        if (fair > runtime) fair = runtime;
        if (fair < system) fair = system;
        system = fair;
        if (runtime - system < user)
            system = runtime - user;
        else
            user = runtime - system;
    }
    record->stat.utime = user / 10000000;
    record->stat.stime = system / 10000000;
}

struct sums {
    u64 minflt, majflt, utime, stime, runtime;
};

/* Sums up the threads of a list; returns whether that were all. */
SEPARATE u32 add_up(u64 link, u64 head, struct sums *sums) {
    if (!sums) return 0;
    u64 minflt = 0, majflt = 0, utime = 0, stime = 0, runtime = 0;
    bpf_repeat(1 << 22) {
        if (link == head || !link) break;
        struct task_struct *thread = (void *)(link - bpf_core_field_offset(struct task_struct, thread_node));
        minflt += far_word(place(thread, min_flt));
        majflt += far_word(place(thread, maj_flt));
        utime += far_word(place(thread, utime));
        stime += far_word(place(thread, stime));
        runtime += far_word(place(thread, se.sum_exec_runtime));
        link = far_word(place(thread, thread_node.next));
    }
    *sums = (struct sums){minflt, majflt, utime, stime, runtime};
    return link == head || !link;
}

static void read_stat(struct task_struct *task, struct signal_struct *signal, struct view *view, struct task_record *record) {
    u64 minflt, majflt, utime, stime, runtime;
    u32 threads = signal->nr_threads;

    record->stat.cminflt = signal->cmin_flt;
    record->stat.cmajflt = signal->cmaj_flt;
    record->stat.cutime = signal->cutime / 10000000;
    record->stat.cstime = signal->cstime / 10000000;
    record->stat.threads = threads;
    record->stat.padding = 0;

    u32 single = view->options & THREAD_STAT;
    minflt = task->min_flt;
    majflt = task->maj_flt;
    utime = task->utime;
    stime = task->stime;
    runtime = task->se.sum_exec_runtime;
    if (!single) {
        /* A thread that ends moves its sums from itself to the signal_struct: not to be seen half-way. */
        for (int try = 0; try < 3; try++) {
            u32 sequence = fresh(signal->stats_lock.seqcount.seqcount.sequence);
            smp_rmb();
            if (threads > 1) {
                struct sums sums = {};
                u64 head = place(signal, thread_head), link = address_in(signal, thread_head.next);
                if (!add_up(number(view, link), number(view, head), &sums)) record->facts = UNSETTLED;
                minflt = sums.minflt;
                majflt = sums.majflt;
                utime = sums.utime;
                stime = sums.stime;
                runtime = sums.runtime;
            }
            minflt += fresh(signal->min_flt);
            majflt += fresh(signal->maj_flt);
            utime += fresh(signal->utime);
            stime += fresh(signal->stime);
            runtime += fresh(signal->sum_sched_runtime);
            smp_rmb();
            if (!(sequence & 1) && sequence == fresh(signal->stats_lock.seqcount.seqcount.sequence)) break;
            minflt = task->min_flt;
            majflt = task->maj_flt;
            utime = task->utime;
            stime = task->stime;
            runtime = task->se.sum_exec_runtime;
            threads = fresh(signal->nr_threads);
        }
    }
    record->stat.minflt = minflt;
    record->stat.majflt = majflt;
    struct prev_cputime *kept = single ? &task->prev_cputime : &signal->prev_cputime;
    struct prev_cputime shown = {kept->utime, kept->stime};
    adjust(record, utime, stime, runtime, &shown);
}

/* The exact value of a percpu counter; a change in the middle of the summing shows in its lock or its base. */
SEPARATE u64 sum_of(u64 address) {
    struct percpu_counter *counter = (void *)address;
    s64 sum = 0;
    for (int try = 0; try < SUMMINGS; try++) {
        u64 base = far_word(place(counter, count)), parts = far_word(place(counter, counters));
        u32 cpu, locked = far_int(place(counter, lock));
        smp_rmb();
        sum = base;
        bpf_for(cpu, 0, cpus) {
            if (cpu < MAX_CPUS) sum += (s32)far_int(parts + per_cpu_offset[cpu]);
        }
        smp_rmb();
        if (!locked && !far_int(place(counter, lock)) && base == far_word(place(counter, count))) break;
    }
    return sum > 0 ? sum : 0;
}

static void read_statm(struct mm_struct *mm, struct view *view, struct task_record *record) {
    u64 counters[4] = {};
    struct mm_struct___plain *plain = (void *)mm;
    u64 rss = bpf_core_field_exists(plain->rss_stat) ? place(plain, rss_stat) : place(mm, rss_stat);
    for (int i = 0; i < 4; i++) {
        if (bpf_core_field_exists(plain->rss_stat))
            counters[i] = far_word(rss + i * 8);
        else
            counters[i] = sum_of(number(view, rss + i * bpf_core_type_size(struct percpu_counter)));
    }
    u64 rss_now = counters[MM_ANONPAGES] + counters[MM_FILEPAGES] + counters[MM_SHMEMPAGES];
    u64 page = 1ull << page_shift, total = mm->total_vm, peak = mm->hiwater_vm, peak_rss = mm->hiwater_rss;
    u64 text = ((mm->end_code + page - 1) & -page) - (mm->start_code & -page), exec = mm->exec_vm;
    text >>= page_shift;
    if (text > exec) text = exec;
    record->statm.anon = counters[MM_ANONPAGES];
    record->statm.file = counters[MM_FILEPAGES];
    record->statm.shmem = counters[MM_SHMEMPAGES];
    record->statm.swap = counters[MM_SWAPENTS];
    record->statm.total_rss = rss_now;
    record->statm.hiwater_rss = peak_rss > rss_now ? peak_rss : rss_now;
    record->statm.total_vm = total;
    record->statm.hiwater_vm = peak > total ? peak : total;
    record->statm.text = text;
    record->statm.lib = exec - text;
    record->statm.ptes = mm->pgtables_bytes.counter;
    record->statm.locked_vm = mm->locked_vm;
    record->statm.pinned_vm = mm->pinned_vm.counter;
    record->statm.data_vm = mm->data_vm;
    record->statm.stack_vm = mm->stack_vm;
}

static void clear(u64 *words, u32 count) {
    for (u32 i = 0; i < count; i++) words[i] = 0;
}

/* The word in which stands whether a memory may be dumped; 0 for eyes to which that is all the same, to spare the cache miss. */
static u64 flags_of_memory(const struct view *view, u64 address) {
    struct mm_struct *mm = at(struct mm_struct, address);
    struct mm_struct___bitmap *bitmap = (void *)mm;
    if (view->unguarded) return 0;
    return word_at(bpf_core_field_exists(bitmap->flags) ? place(bitmap, flags) : place(mm, flags));
}

/* What stands in the task's memory descriptor, with the facts about it. The descriptor may be freed, and its place
 * used again, at any time: the caller must see afterwards that the task still has it. */
static u32 read_memory(u64 address, struct view *view, struct task_record *record) {
    struct mm_struct *mm = at(struct mm_struct, address);
    if (view->groups & STATM) read_statm(mm, view, record);
    if (view->unguarded) return HAS_MEMORY | PTRACE_OVER_MEMORY;
    u64 flags = flags_of_memory(view, address);
    /* What was read before may be of a moment at which it might not be looked at. */
    if (view->ahead && (flags ^ view->memory_flags) & 3) view->memory = 0;
    return HAS_MEMORY | DUMPABLE_KNOWN | ((flags & 3) == 1 ? DUMPABLE : 0) |
           (may_ptrace_in(view, address_in(mm, user_ns)) ? PTRACE_OVER_MEMORY : 0);
}

static u32 without_memory(struct task_struct *task, struct view *view, struct task_record *record) {
    clear((u64 *)&record->statm, sizeof(record->statm) / 8);
    return DUMPABLE_KNOWN | (view->almighty ? PTRACE_OVER_MEMORY : 0) |
           (!bpf_core_field_exists(task->user_dumpable) || BPF_CORE_READ_BITFIELD(task, user_dumpable) ? DUMPABLE : 0);
}

enum filled { GONE, FILLED, CHANGED };

/* Fills the record of one task; `number` is its number for the reader, where that is known already. */
GLOBAL int fill(u64 address, u32 number, struct view *view, struct task_record *record) {
    if (!view || !record) return GONE;
    struct task_struct *task = at(struct task_struct, address);
    u64 own = address_in(task, thread_pid), credentials = address_in(task, real_cred), memory = address_in(task, mm),
        program = program_of(task);
    if (!own) return GONE;
    smp_rmb();

    struct signal_struct *signal = task->signal;
    u64 leader = address_in(signal, pids[PIDTYPE_TGID]), group = address_in(signal, pids[PIDTYPE_PGID]),
        session = address_in(signal, pids[PIDTYPE_SID]);
    record->start_time = task->start_boottime;
    record->exec_id = program;
    record->base.pid = number ? number : number_in(view, own);
    record->base.tgid = leader == own ? record->base.pid : number_in(view, leader);
    record->base.pgid = group == leader ? record->base.tgid : number_in(view, group);
    record->base.sid = session == group ? record->base.pgid : number_in(view, session);
    bool same_numbers = view->pid_ns == view->daemons_pid_ns;
    record->daemons_pid = same_numbers ? record->base.pid : number_at(own, view->daemons_level, view->daemons_pid_ns);
    record->daemons_tgid = same_numbers ? record->base.tgid : number_at(leader, view->daemons_level, view->daemons_pid_ns);
    record->base.ppid = process_of(view, task->real_parent);
    record->base.tpid = task->ptrace ? number_in(view, address_in(task->parent, thread_pid)) : 0;
    u64 comm[2] = {word_at(place(task, comm)), word_at(place(task, comm) + 8)};
    __builtin_memcpy(record->base.comm, comm, 16);
    record->base.state = state_of(task->__state, task->exit_state);
    record->base.padding[0] = record->base.padding[1] = record->base.padding[2] = 0;

    struct cred *cred = at(struct cred, credentials);
    u64 real = pair(cred, uid, gid), saved = pair(cred, suid, sgid), effective = pair(cred, euid, egid),
        files = pair(cred, fsuid, fsgid);
    record->credentials.uid = real;
    record->credentials.gid = real >> 32;
    record->credentials.suid = saved;
    record->credentials.sgid = saved >> 32;
    record->credentials.euid = effective;
    record->credentials.egid = effective >> 32;
    record->credentials.fsuid = files;
    record->credentials.fsgid = files >> 32;
    *(u64 *)record->credentials.inheritable = word_at(place(cred, cap_inheritable));
    *(u64 *)record->credentials.permitted = word_at(place(cred, cap_permitted));
    *(u64 *)record->credentials.effective = word_at(place(cred, cap_effective));
    *(u64 *)record->credentials.bounding = word_at(place(cred, cap_bset));
    u64 user_ns = address_in(cred, user_ns);

    u32 facts = 0, kernel_thread = task->flags & PF_KTHREAD;
    if (kernel_thread) facts |= KERNEL_THREAD;
    if (user_ns == view->user_ns) facts |= SAME_USER_NS;
    if (may_ptrace_in(view, user_ns)) facts |= PTRACE_OVER_TASK;
    if (address_in(task, signal) == view->signal) facts |= SAME_THREAD_GROUP;
    facts |= memory && !kernel_thread ? read_memory(memory, view, record) : without_memory(task, view, record);
    record->facts = facts;

    if (view->groups & STAT)
        read_stat(task, signal, view, record);
    else
        clear((u64 *)&record->stat, sizeof(record->stat) / 8);

    /* All of it belongs to one program that the task ran, with the same rights: credentials cannot come back at the same
     * address within an RCU section. That no exec was between them must be seen before they are looked at for the last
     * time: one that is seen to have ended may have begun after that look. */
    if (view->ahead && (view->memory != memory || view->credentials != credentials || view->program != program)) return CHANGED;
    smp_rmb();
    if (between_programs(task)) return CHANGED;
    smp_rmb();
    bool same = memory == address_in(task, mm) && credentials == address_in(task, real_cred) && program == program_of(task);
    return same ? FILLED : CHANGED;
}

/* For a task that cannot be told of: nothing is known of its memory. */
static void unsettle(struct task_record *record) {
    record->facts = UNSETTLED;
    clear((u64 *)&record->statm, sizeof(record->statm) / 8);
}
