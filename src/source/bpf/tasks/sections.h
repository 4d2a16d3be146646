/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Sections: what the protocol has from number 32 on, as far as the kernel's own structures tell it.
 *
 * Each writer puts one behind the other into slot->bytes at `to`, and returns how many bytes it took: none where it
 * cannot tell what /proc would. Not of what it reads everything lives as long as the task:
 *
 * - credentials with their list of groups, the struct pid with its namespaces, signal_struct and the accounting of
 *   delays do, until the end of the RCU read section (the table of open files too, where it was replaced by a larger one);
 * - nsproxy, files_struct and the terminal are freed at once when the last task gives them up. What was read of them
 *   counts if the task still has them afterwards: while it has one, that one lives. */
#pragma once
#include "memory/command_line.h"

/* Set by the driver before loading: bits of the groups whose code this kernel does not take. It is left out then. */
const volatile u64 left_out = 0;
#define CMDLINE 5
#define takes(group) (!(left_out >> (group) & 1))

#define PF_EXITING 0x4
#define WHOLE_GIDS 64
#define MAX_LEVELS 33
#define OPEN_WORDS (PROBING ? 64 : 1024) /* of 64 descriptors each */
#define RLIMIT_NOFILE 7

/* The place of a section of this type, or nothing if `to` is out of bounds. */
#define SECTION_AT(type)                                                                                               \
    if (!slot || !view || to > LINE_BYTES - PAGE) return 0;                                                            \
    struct type *out = (void *)&slot->bytes[to];
#define head(number, payload) ((struct section){number, payload})

struct groups_section {
    struct section head;
    u64 ambient;
    u32 securebits;
    u8 no_new_privs, seccomp;
    u16 gids_off;
    u32 gids_count, gids[WHOLE_GIDS + 1];
};

GLOBAL u32 write_groups(struct slot *slot, u32 to, u64 address, struct view *view) {
    SECTION_AT(groups_section)
    struct task_struct *task = at(struct task_struct, address);
    struct cred *cred = at(struct cred, address_in(task, real_cred));
    u64 gids = address_in(cred, group_info);
    u32 count = get(at(struct group_info, gids)->ngroups);
    if (count > WHOLE_GIDS) return 0;
    out->ambient = word_at(place(cred, cap_ambient));
    out->securebits = get(cred->securebits);
    out->no_new_privs = get(task->atomic_flags) & 1; /* PFA_NO_NEW_PRIVS */
    out->seccomp = bpf_core_field_exists(task->seccomp.mode) ? get(task->seccomp.mode) : 0;
    out->gids_off = 20;
    out->gids_count = count;
    if (bpf_probe_read_kernel(out->gids, count * sizeof(u32), (void *)(gids + bpf_core_field_offset(struct group_info, gid))))
        return 0;
    out->gids[count] = 0;
    out->head = head(GROUPS, 20 + count * 4);
    return (sizeof(struct section) + 20 + count * 4 + 7) & ~7;
}

/* Adds up what ended threads left in the signal_struct and what all the others have; whether those were all. */
static __always_inline bool add_all(u64 address, u32 of_signal, u32 of_task, struct totals *totals) {
    u64 head = place(at(struct signal_struct, address), thread_head), link = word_at(head);
    for (int i = 0; i < 7; i++) totals->words[i] = word_at(address + of_signal + i * 8);
    bpf_repeat(1 << 22) {
        if (link == head || !link) break;
        u64 words = link - bpf_core_field_offset(struct task_struct, thread_node) + of_task;
        for (int i = 0; i < 7; i++) totals->words[i] += word_at(words + i * 8);
        link = word_at(link);
    }
    return link == head;
}

/* The same of one moment: a thread that ends moves its sums from itself to the signal_struct. */
GLOBAL u32 sum_up(u64 address, u32 of_signal, u32 of_task, struct totals *totals) {
    if (!totals) return 0;
    struct signal_struct *signal = at(struct signal_struct, address);
    for (int try = 0; try < 4; try++) {
        barrier_var(address); /* as in read_stat */
        u32 sequence = fresh(signal->stats_lock.seqcount.seqcount.sequence);
        smp_rmb();
        if (!add_all(address, of_signal, of_task, totals)) continue;
        smp_rmb();
        if (!(sequence & 1) && sequence == fresh(signal->stats_lock.seqcount.seqcount.sequence)) return 1;
    }
    return 0;
}

struct sched_section {
    struct section head;
    u64 start_time, voluntary_switches, involuntary_switches, guest_time, children_guest_time, blkio_delay;
    u32 flags;
    s32 nice, priority;
    u32 rt_priority, policy;
    s32 processor, tty_nr, tpgid, exit_signal;
    u32 padding;
};

/* The controlling terminal and its foreground process group; whether that could be told. */
GLOBAL u32 write_terminal(u64 address_of_signal, struct view *view, struct sched_section *out) {
    if (!view || !out) return 0;
    struct signal_struct *signal = at(struct signal_struct, address_of_signal);
    for (int try = 0; try < 3; try++) {
        u64 address = address_in(signal, tty);
        out->tty_nr = 0;
        out->tpgid = -1;
        if (!address) return 1;
        struct tty_struct *tty = at(struct tty_struct, address);
        if (!bpf_core_field_exists(tty->ctrl.pgrp)) return 0;
        struct tty_driver *driver = at(struct tty_driver, address_in(tty, driver));
        u32 minor = get(driver->minor_start) + get(tty->index);
        u64 group = address_in(tty, ctrl.pgrp);
        out->tty_nr = (minor & 0xff) | get(driver->major) << 8 | (minor & ~0xff) << 12;
        out->tpgid = group ? number_in(view, group) : 0;
        smp_rmb();
        if (group == address_in(tty, ctrl.pgrp) && address == address_in(signal, tty)) return 1;
    }
    return 0;
}

GLOBAL u32 write_sched(struct slot *slot, u32 to, u64 address, struct view *view) {
    SECTION_AT(sched_section)
    struct task_struct *task = at(struct task_struct, address);
    struct signal_struct *signal = get(task->signal);
    if (!bpf_core_field_exists(task->thread_info.cpu)) return 0;
    u64 of_signal = address_in(task, signal);
    struct totals *guest = &view->guest;
    if (view->options & THREAD_STAT)
        guest->words[0] = get(task->gtime);
    else if (view->guest_of != of_signal) {
        view->guest_of = 0;
        if (!sum_up(of_signal, bpf_core_field_offset(signal->gtime), bpf_core_field_offset(task->gtime), guest)) return 0;
        view->guest_of = of_signal;
    }
    if (!write_terminal(of_signal, view, out)) return 0;
    u64 delays = bpf_core_field_exists(task->delays) ? address_in(task, delays) : 0;
    out->start_time = get(task->start_boottime);
    out->voluntary_switches = get(task->nvcsw);
    out->involuntary_switches = get(task->nivcsw);
    out->guest_time = guest->words[0] / 10000000;
    out->children_guest_time = get(signal->cgtime) / 10000000;
    out->blkio_delay = delays ? get(at(struct task_delay_info, delays)->blkio_delay) / 10000000 : 0;
    out->flags = get(task->flags);
    out->nice = get(task->static_prio) - 120;
    out->priority = get(task->prio) - 100;
    out->rt_priority = get(task->rt_priority);
    out->policy = get(task->policy);
    out->processor = get(task->thread_info.cpu);
    out->exit_signal = get(task->exit_signal);
    out->padding = 0;
    out->head = head(SCHED, sizeof(*out) - sizeof(struct section));
    return sizeof(*out);
}

struct io_section {
    struct section head;
    struct totals sums;
};

GLOBAL u32 write_io(struct slot *slot, u32 to, u64 address, struct view *view) {
    SECTION_AT(io_section)
    struct task_struct *task = at(struct task_struct, address);
    struct signal_struct *signal = 0;
    if (!bpf_core_field_exists(task->ioac.rchar) || !bpf_core_field_exists(task->ioac.cancelled_write_bytes)) return 0;
    u32 of_task = bpf_core_field_offset(task->ioac);
    if (view->options & THREAD_STAT)
        for (int i = 0; i < 7; i++) out->sums.words[i] = word_at(address + of_task + i * 8);
    else {
        u64 of_signal = address_in(task, signal);
        if (view->io_of != of_signal) {
            view->io_of = 0;
            if (!sum_up(of_signal, bpf_core_field_offset(signal->ioac), of_task, &view->io)) return 0;
            view->io_of = of_signal;
        }
        out->sums = view->io;
    }
    out->head = head(IO, sizeof(out->sums));
    return sizeof(*out);
}

struct ns_section {
    struct section head;
    u16 ns_off, ns_count, pids_off, pids_count;
    u32 cgroup, ipc, mnt, net, pid, pid_for_children, time, time_for_children, user, uts;
    u32 pids[MAX_LEVELS + 1];
};

/* The inode number of the namespace that a field leads to; 0 if to none, as nothing is there to be read. */
#define inode_of(object, field, type) (get(at(struct type, address_in(object, field))->ns.inum))

GLOBAL u32 write_ns(struct slot *slot, u32 to, u64 address, struct view *view) {
    SECTION_AT(ns_section)
    struct task_struct *task = at(struct task_struct, address);
    struct nsproxy *proxy;
    u64 had;
    int try;
    for (try = 0; try < 3; try++) {
        had = address_in(task, nsproxy);
        proxy = at(struct nsproxy, had);
        out->cgroup = inode_of(proxy, cgroup_ns, cgroup_namespace);
        out->ipc = inode_of(proxy, ipc_ns, ipc_namespace);
        out->mnt = inode_of(proxy, mnt_ns, mnt_namespace);
        out->net = inode_of(proxy, net_ns, net);
        out->uts = inode_of(proxy, uts_ns, uts_namespace);
        out->time = out->time_for_children = 0;
        if (bpf_core_field_exists(proxy->time_ns)) {
            out->time = inode_of(proxy, time_ns, time_namespace);
            out->time_for_children = inode_of(proxy, time_ns_for_children, time_namespace);
        }
        /* One that nobody was born into yet has no link in /proc. */
        struct pid_namespace *children = at(struct pid_namespace, address_in(proxy, pid_ns_for_children));
        out->pid_for_children = address_in(children, child_reaper) ? get(children->ns.inum) : 0;
        smp_rmb();
        if (had == address_in(task, nsproxy)) break;
    }
    if (try == 3) return 0;
    out->pid = get(at(struct pid_namespace, pid_ns_of(task))->ns.inum);
    out->user = inode_of(at(struct cred, address_in(task, real_cred)), user_ns, user_namespace);

    struct pid *pid = at(struct pid, address_in(task, thread_pid));
    u32 level = view->level, count = get(pid->level) - level + 1;
    if (count > MAX_LEVELS) return 0;
    for (u32 i = 0; i < MAX_LEVELS && i < count; i++) out->pids[i] = int_at(place(upid_at(pid, level + i), nr));
    out->pids[count] = 0;
    out->ns_off = 8;
    out->ns_count = 10;
    out->pids_off = 48;
    out->pids_count = count;
    out->head = head(NS, 48 + count * 4);
    return (sizeof(struct section) + 48 + count * 4 + 7) & ~7;
}

struct fd_count_section {
    struct section head;
    u32 open, padding;
    u64 soft_limit, hard_limit;
};

static u32 bits_of(u64 word) {
    word -= word >> 1 & 0x5555555555555555;
    word = (word & 0x3333333333333333) + (word >> 2 & 0x3333333333333333);
    return ((word + (word >> 4)) & 0x0f0f0f0f0f0f0f0f) * 0x0101010101010101 >> 56;
}

/* How many files a task has open, or UNTOLD. */
GLOBAL u32 open_files(u64 address) {
    struct task_struct *task = at(struct task_struct, address);
    for (int try = 0; try < 3; try++) {
        u64 files = address_in(task, files);
        if (!files) return 0;
        u64 table = address_in(at(struct files_struct, files), fdt);
        u64 open = address_in(at(struct fdtable, table), open_fds);
        u32 words = get(at(struct fdtable, table)->max_fds) / 64, count = 0, i;
        if (words > OPEN_WORDS) return UNTOLD;
        bpf_for_up_to(OPEN_WORDS, i, 0, words) count += bits_of(word_at(open + i * 8));
        smp_rmb();
        if (files == address_in(task, files) && table == address_in(at(struct files_struct, files), fdt)) return count;
    }
    return UNTOLD;
}

GLOBAL u32 write_fd_count(struct slot *slot, u32 to, u64 address, struct view *view) {
    SECTION_AT(fd_count_section)
    struct signal_struct *signal = get(at(struct task_struct, address)->signal);
    u32 open = open_files(address);
    if (open == UNTOLD) return 0;
    out->open = open;
    out->padding = 0;
    out->soft_limit = get(signal->rlim[RLIMIT_NOFILE].rlim_cur);
    out->hard_limit = get(signal->rlim[RLIMIT_NOFILE].rlim_max);
    out->head = head(FD_COUNT, sizeof(*out) - sizeof(struct section));
    return sizeof(*out);
}

struct environ_section {
    struct section head;
    u64 words[LONGEST_ENVIRONMENT / 8 + 1];
};

/* Makes a section of the bytes that were read behind its head; `length` may be UNTOLD. */
GLOBAL u32 end_environ(struct slot *slot, u32 to, u32 length) {
    if (!slot || to > LINE_BYTES - sizeof(struct environ_section) || length > LONGEST_ENVIRONMENT) return 0;
    struct environ_section *out = (void *)&slot->bytes[to];
    /* What is over in the last word is zero. (A loop over bytes would be made a call of memset.) */
    if (length & 7) out->words[length / 8] &= ~0ull >> (64 - (length & 7) * 8);
    out->head = head(ENVIRON, length);
    return sizeof(out->head) + ((length + 7) & ~7);
}

/* What makes two tasks the same to /proc/PID/cgroup. */
struct cgroup_section {
    struct section head;
    u64 key;
};

GLOBAL u32 write_cgroup(struct slot *slot, u32 to, u64 address, struct view *view) {
    SECTION_AT(cgroup_section)
    struct task_struct *task = at(struct task_struct, address);
    if (!bpf_core_field_exists(task->cgroups)) return 0;
    /* One that ends is shown in the root of the old hierarchies. */
    out->key = address_in(task, cgroups) | (get(task->flags) & PF_EXITING ? 1 : 0);
    out->head = head(CGROUP | MADE_OF, sizeof(out->key));
    return sizeof(*out);
}

struct misc_section {
    struct section head;
    s32 oom_score_adj;
    u32 loginuid, sessionid, padding;
};

GLOBAL u32 write_misc(struct slot *slot, u32 to, u64 address, struct view *view) {
    SECTION_AT(misc_section)
    struct task_struct *task = at(struct task_struct, address);
    out->oom_score_adj = get(get(task->signal)->oom_score_adj);
    out->loginuid = bpf_core_field_exists(task->loginuid) ? get(task->loginuid.val) : ~0u;
    out->sessionid = bpf_core_field_exists(task->sessionid) ? get(task->sessionid) : ~0u;
    out->padding = 0;
    out->head = head(MISC | MADE_OF, 12);
    return sizeof(*out);
}

#define asks(view, group) (takes(group) && (view)->sections >> ((group) - 32) & 1)

/* Writes what is asked for, by ascending ids, but for the environment, which stands behind it; returns how many bytes that
 * took. */
GLOBAL u32 write_sections(struct slot *slot, struct view *view, u64 address, u32 first) {
    if (!slot || !view) return 0;
    u32 to = first;
    if (asks(view, GROUPS)) to += write_groups(slot, to, address, view);
    if (asks(view, SCHED)) to += write_sched(slot, to, address, view);
    if (asks(view, IO)) to += write_io(slot, to, address, view);
    if (asks(view, NS)) to += write_ns(slot, to, address, view);
    if (asks(view, FD_COUNT)) to += write_fd_count(slot, to, address, view);
    return to - first;
}

/* Writes what user space needs for the rest. */
GLOBAL u32 write_sources(struct slot *slot, struct view *view, u64 address, u32 first) {
    if (!slot || !view) return 0;
    u32 to = first;
    if (asks(view, CGROUP)) to += write_cgroup(slot, to, address, view);
    if (asks(view, MISC)) to += write_misc(slot, to, address, view);
    return to - first;
}
