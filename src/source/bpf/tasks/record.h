/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* One task into its record. */
#pragma once
#include "kernel/find.h"
#include "tasks/abi.h"

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
    struct mm_struct___plain *plain = 0;
    u32 cpu, key = 0;
    if (bpf_core_field_exists(plain->rss_stat)) return 1; /* nobody asks, and older kernels lack the function */
    *(volatile u64 *)&nominal = (u64)&probe;
    nominal = word_at(*(volatile u64 *)&nominal + bpf_core_field_offset(struct bpf_array, pptrs));
    bpf_for_up_to(MAX_CPUS, cpu, 0, cpus) {
        void *part = bpf_map_lookup_percpu_elem(&probe, &key, cpu);
        if (!part || cpu >= MAX_CPUS) return 0;
        *(volatile u64 *)&per_cpu_offset[cpu] = (u64)part;
        *(volatile u64 *)&per_cpu_offset[cpu] -= nominal;
    }
    return 1;
}

/* What must stand still while a task's memory is read (command_line.h). */
enum area { THE_ARGUMENTS, THE_ENVIRONMENT = 2 };
struct standing {
    u64 given_back;
    u64 places[4]; /* where arguments and environment begin and end */
    u32 sequence;
};

/* Of a task or its threads, times in nanoseconds. */
struct sums {
    u64 minflt, majflt, utime, stime, runtime;
};

/* Seven words that lie together in each thread; who asks for fewer ignores the rest. */
struct totals {
    u64 words[7];
};

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
    u64 memory, credentials, program;
    struct standing standing;
    struct sums sums;
    struct totals guest, io;
    u64 summed, guest_of, io_of; /* of which signal_struct these are, in the read section under way */
    u32 listed; /* how many ids slot->list has */
    u32 guard; /* and whether it might be dumped then: see guard_of */
};

static u32 number_at(u64 address, u32 level, u64 pid_ns) {
    struct pid *pid = at(struct pid, address);
    if (!level) return int_at(place(pid, numbers)); /* in the initial namespace all have one */
    if (!address || level > get(pid->level)) return 0;
    struct upid *upid = upid_at(pid, level);
    return word_at(place(upid, ns)) == pid_ns ? int_at(place(upid, nr)) : 0;
}

static u32 number_in(const struct view *view, u64 address) {
    return number_at(address, view->level, view->pid_ns);
}

static u32 process_of(const struct view *view, struct task_struct *task) {
    if (!view->level) return get(task->tgid);
    return number_in(view, address_in(get(task->signal), pids[PIDTYPE_TGID]));
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
        if (!ns || get(here->level) <= view->depth) break;
        if (address_in(here, parent) == view->user_ns && get(here->owner.val) == view->euid) {
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

/* The kernel's cputime_adjust: the tick-sampled halves are scaled to the precise sum, never below what was shown, which
 * stands at an address. */
GLOBAL u32 adjust(struct task_record *record, const struct sums *sums, u64 address) {
    if (!record || !sums) return 0;
    struct prev_cputime *shown = at(struct prev_cputime, address);
    u64 user = get(shown->utime), system = get(shown->stime), runtime = sums->runtime;
    if (user + system < runtime) {
        u64 utime = sums->utime, stime = sums->stime;
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
    return 0;
}

/* Adds one thread's share. */
static void add_thread(struct sums *sums, struct task_struct *thread) {
    sums->minflt += word_at(place(thread, min_flt));
    sums->majflt += word_at(place(thread, maj_flt));
    sums->utime += word_at(place(thread, utime));
    sums->stime += word_at(place(thread, stime));
    sums->runtime += word_at(place(thread, se.sum_exec_runtime));
}

/* Adds up the threads of a list; returns whether that were all. */
GLOBAL u32 add_up(u64 link, u64 head, struct sums *sums) {
    if (!sums) return 0;
    bpf_repeat(1 << 22) {
        if (link == head || !link) break;
        struct task_struct *thread = (void *)(link - bpf_core_field_offset(struct task_struct, thread_node));
        add_thread(sums, thread);
        link = word_at(place(thread, thread_node.next));
    }
    return link == head || !link;
}

/* What STAT tells, but for the times, which are left in view->sums. */
/* At the beginning of a read section: what a signal_struct was may be another one's place by now. */
static void forget_sums(struct view *view) {
    view->summed = view->guest_of = view->io_of = 0;
}

GLOBAL u32 read_stat(u64 address, struct view *view, struct task_record *record) {
    if (!view || !record) return 0;
    struct task_struct *task = at(struct task_struct, address);
    struct signal_struct *signal = get(task->signal);
    struct sums *sums = &view->sums;
    u32 single = view->options & THREAD_STAT, settled = 0;
    u64 of_signal = address_in(task, signal);

    record->stat.cminflt = get(signal->cmin_flt);
    record->stat.cmajflt = get(signal->cmaj_flt);
    record->stat.cutime = get(signal->cutime) / 10000000;
    record->stat.cstime = get(signal->cstime) / 10000000;
    record->stat.threads = get(signal->nr_threads);
    record->stat.padding = 0;
    if (!single && view->summed && view->summed == of_signal) goto told;
    view->summed = 0;
    /* A thread that ends moves its sums from itself to the signal_struct: not to be seen half-way. */
    for (int try = 0; try < 4; try++) {
        u32 all = 1;
        barrier_var(task); /* or clang keeps the place of each field on the small stack */
        barrier_var(signal);
        u32 sequence = fresh(signal->stats_lock.seqcount.seqcount.sequence);
        smp_rmb();
        *sums = (struct sums){};
        if (single || fresh(signal->nr_threads) <= 1) {
            add_thread(sums, task);
            if (single) settled = 1;
            if (single) break;
        } else {
            u64 head = of_signal + bpf_core_field_offset(signal->thread_head),
                link = address_in(signal, thread_head.next);
            all = add_up(link, head, sums);
        }
        sums->minflt += fresh(signal->min_flt);
        sums->majflt += fresh(signal->maj_flt);
        sums->utime += fresh(signal->utime);
        sums->stime += fresh(signal->stime);
        sums->runtime += fresh(signal->sum_sched_runtime);
        smp_rmb();
        if (!all || sequence & 1 || sequence != fresh(signal->stats_lock.seqcount.seqcount.sequence)) continue;
        settled = 1;
        break;
    }
    if (!settled)
        record->facts = UNSETTLED; /* /proc takes the lock */
    else if (!single)
        view->summed = of_signal;
told:
    record->stat.minflt = sums->minflt;
    record->stat.majflt = sums->majflt;
    return 0;
}

/* The exact value of a percpu counter; a change in the middle of the summing shows in its lock or its base. */
GLOBAL u64 sum_of(u64 address) {
    struct percpu_counter *counter = (void *)address;
    s64 sum = 0;
    /* (Older verifiers do not follow a loop within a loop as clang lays it out.) */
    for (int try = 0; try < (PROBING ? 1 : 3); try++) {
        u64 base = word_at(place(counter, count)), parts = word_at(place(counter, counters));
        u32 cpu, locked = int_at(place(counter, lock));
        smp_rmb();
        sum = base;
        bpf_for_up_to(MAX_CPUS, cpu, 0, cpus) {
            if (cpu < MAX_CPUS) sum += (s32)int_at(parts + per_cpu_offset[cpu]);
        }
        smp_rmb();
        if (!locked && !int_at(place(counter, lock)) && base == word_at(place(counter, count))) break;
    }
    return sum > 0 ? sum : 0;
}

/* One of the four counters of resident pages. */
static u64 pages_of(u64 address, struct view *view, u32 which) {
    struct mm_struct *mm = 0;
    struct mm_struct___plain *plain = 0;
    if (bpf_core_field_exists(plain->rss_stat))
        return word_at(address + bpf_core_field_offset(plain->rss_stat) + which * 8);
    address += bpf_core_field_offset(mm->rss_stat) + which * bpf_core_type_size(struct percpu_counter);
    return sum_of(address);
}

GLOBAL u32 read_statm(u64 address, struct view *view, struct task_record *record) {
    if (!view || !record) return 0;
    struct mm_struct *mm = at(struct mm_struct, address);
    record->statm.anon = pages_of(address, view, MM_ANONPAGES);
    record->statm.file = pages_of(address, view, MM_FILEPAGES);
    record->statm.shmem = pages_of(address, view, MM_SHMEMPAGES);
    record->statm.swap = pages_of(address, view, MM_SWAPENTS);
    u64 rss = record->statm.anon + record->statm.file + record->statm.shmem, peak_rss = get(mm->hiwater_rss);
    record->statm.total_rss = rss;
    record->statm.hiwater_rss = peak_rss > rss ? peak_rss : rss;
    u64 total = get(mm->total_vm), peak = get(mm->hiwater_vm);
    record->statm.total_vm = total;
    record->statm.hiwater_vm = peak > total ? peak : total;
    u64 page = 1ull << page_shift, exec = get(mm->exec_vm);
    u64 text = (((get(mm->end_code) + page - 1) & -page) - (get(mm->start_code) & -page)) >> page_shift;
    if (text > exec) text = exec;
    record->statm.text = text;
    record->statm.lib = exec - text;
    record->statm.ptes = get(mm->pgtables_bytes.counter);
    record->statm.locked_vm = get(mm->locked_vm);
    record->statm.pinned_vm = get(mm->pinned_vm.counter);
    record->statm.data_vm = get(mm->data_vm);
    record->statm.stack_vm = get(mm->stack_vm);
    return 0;
}

static void clear(u64 *words, u32 count) {
    for (u32 i = 0; i < count; i++) words[i] = 0;
}

/* Whether the task may be dumped, as facts, and the user namespace that owns what would be: 0 where that is unknown, or
 * where the initial one does. What this kernel's BTF does not show is not known, and so nobody is shown it. */
static u32 guard_of(struct task_struct *task, u64 memory, u64 *owner) {
    struct mm_struct *mm = at(struct mm_struct, memory);
    struct mm_struct___bitmap *bitmap = (void *)mm;
    *owner = 0;
    if (bpf_core_field_exists(task->exec_state)) {
        struct task_exec_state *state = at(struct task_exec_state, address_in(task, exec_state));
        if (!bpf_core_field_exists(state->dumpable) || !bpf_core_field_exists(state->user_ns)) return 0;
        *owner = address_in(state, user_ns);
        if (!*owner) return 0;
        u32 dumpable = get(state->dumpable) == bpf_core_enum_value(enum task_dumpable, TASK_DUMPABLE_OWNER);
        return EXEC_STATE | DUMPABLE_KNOWN | (dumpable ? DUMPABLE : 0);
    }
    if (!bpf_core_field_exists(mm->user_ns)) return 0;
    if (!memory) {
        if (!bpf_core_field_exists(task->user_dumpable)) return DUMPABLE_KNOWN | DUMPABLE;
        return DUMPABLE_KNOWN | (get_bit(task, user_dumpable) ? DUMPABLE : 0);
    }
    *owner = address_in(mm, user_ns);
    u64 flags = 0;
    if (bpf_core_field_exists(bitmap->flags))
        flags = word_at(place(bitmap, flags));
    else if (bpf_core_field_exists(mm->flags))
        flags = word_at(place(mm, flags));
    return DUMPABLE_KNOWN | ((flags & 3) == 1 ? DUMPABLE : 0); /* SUID_DUMP_USER */
}

/* What stands in the task's memory descriptor, 0 for none. The descriptor may be freed, and its place used again, at any
 * time: the caller must see afterwards that the task still has it. */
GLOBAL u32 read_memory(u64 address, struct view *view, struct task_record *record) {
    if (!view || !record) return 0;
    if (!address) {
        clear((u64 *)&record->statm, sizeof(record->statm) / 8);
        return 0;
    }
    if (view->groups & STATM) read_statm(address, view, record);
    return 0;
}

/* What BASE tells; 0 where the task is gone. */
GLOBAL u32 read_base(u64 address, u32 number, struct view *view, struct task_record *record) {
    if (!view || !record) return 0;
    struct task_struct *task = at(struct task_struct, address);
    u64 own = address_in(task, thread_pid);
    if (!own) return 0;
    struct signal_struct *signal = get(task->signal);
    u64 leader = address_in(signal, pids[PIDTYPE_TGID]), group = address_in(signal, pids[PIDTYPE_PGID]),
        session = address_in(signal, pids[PIDTYPE_SID]);
    record->start_time = get(task->start_boottime);
    record->base.pid = number ? number : number_in(view, own);
    record->base.tgid = leader == own ? record->base.pid : number_in(view, leader);
    record->base.pgid = group == leader ? record->base.tgid : number_in(view, group);
    record->base.sid = session == group ? record->base.pgid : number_in(view, session);
    bool same_numbers = view->pid_ns == view->daemons_pid_ns;
    record->daemons_pid = same_numbers ? record->base.pid : number_at(own, view->daemons_level, view->daemons_pid_ns);
    record->daemons_tgid = same_numbers ? record->base.tgid : number_at(leader, view->daemons_level, view->daemons_pid_ns);
    record->base.ppid = process_of(view, get(task->real_parent));
    record->base.tpid = get(task->ptrace) ? number_in(view, address_in(get(task->parent), thread_pid)) : 0;
    u64 comm[2] = {word_at(place(task, comm)), word_at(place(task, comm) + 8)};
    __builtin_memcpy(record->base.comm, comm, 16);
    record->base.state = state_of(get(task->__state), get(task->exit_state));
    record->base.padding[0] = record->base.padding[1] = record->base.padding[2] = 0;
    return 1;
}

/* What CRED tells, and the facts that follow from it. */
GLOBAL u32 read_credentials(u64 address, struct view *view, struct task_record *record) {
    if (!view || !record) return 0;
    struct cred *cred = at(struct cred, address);
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
    return (user_ns == view->user_ns ? SAME_USER_NS : 0) | (may_ptrace_in(view, user_ns) ? PTRACE_OVER_TASK : 0);
}

/* The facts about a task that follow from who may see its memory, 0 for none. To some eyes it is all the same whether it
 * may be dumped: spare the cache misses. */
GLOBAL u32 read_guard(u64 address, u64 memory, struct view *view) {
    if (!view) return 0;
    u32 facts = memory ? HAS_MEMORY : 0;
    if (view->unguarded) return facts | PTRACE_OVER_MEMORY;
    u64 owner;
    u32 guard = guard_of(at(struct task_struct, address), memory, &owner);
    if (!view->ahead) view->guard = guard;
    if (view->guard != guard) return UNSETTLED;
    return facts | guard | ((owner ? may_ptrace_in(view, owner) : view->almighty) ? PTRACE_OVER_MEMORY : 0);
}

enum filled { GONE, FILLED, CHANGED };

/* Fills the record of one task; `number` is its number for the reader, where that is known already. */
GLOBAL int fill(u64 address, u32 number, struct view *view, struct task_record *record) {
    if (!view || !record) return GONE;
    struct task_struct *task = at(struct task_struct, address);
    u64 credentials = address_in(task, real_cred), memory = address_in(task, mm);
    record->exec_id = program_of(task);
    smp_rmb();
    if (!read_base(address, number, view, record)) return GONE;
    u32 kernel_thread = get(task->flags) & PF_KTHREAD;
    u32 facts = read_credentials(credentials, view, record) | read_guard(address, kernel_thread ? 0 : memory, view);
    if (facts & UNSETTLED) return CHANGED;
    if (kernel_thread) facts |= KERNEL_THREAD;
    if (address_in(task, signal) == view->signal) facts |= SAME_THREAD_GROUP;
    record->facts = facts;

    read_memory(kernel_thread ? 0 : memory, view, record);
    if (view->groups & STAT) {
        read_stat(address, view, record);
        u64 shown = view->options & THREAD_STAT
                        ? address + bpf_core_field_offset(task->prev_cputime)
                        : address_in(task, signal) + bpf_core_field_offset(struct signal_struct, prev_cputime);
        adjust(record, &view->sums, shown);
    } else
        clear((u64 *)&record->stat, sizeof(record->stat) / 8);

    /* All of it belongs to one program that the task ran, with the same rights: credentials cannot come back at the same
     * address within an RCU section. That no exec was between them must be seen before they are looked at for the last
     * time: one that is seen to have ended may have begun after that look. */
    if (view->ahead &&
        (view->memory != memory || view->credentials != credentials || view->program != record->exec_id))
        return CHANGED;
    smp_rmb();
    if (between_programs(task)) return CHANGED;
    smp_rmb();
    bool same = memory == address_in(task, mm) && credentials == address_in(task, real_cred) &&
                record->exec_id == program_of(task);
    return same ? FILLED : CHANGED;
}

/* For a task that cannot be told of: nothing is known of its memory. */
static void unsettle(struct task_record *record) {
    record->facts = UNSETTLED;
    clear((u64 *)&record->statm, sizeof(record->statm) / 8);
}
