/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* What the programs share with the driver (abi.rs); `task_record` is task.rs's TaskRecord. */
#pragma once

struct task_record {
    u64 start_time;
    struct {
        u32 tgid, pid, ppid, tpid, sid, pgid;
        u8 state;
        u8 comm[16];
        u8 padding[3];
    } base;
    u32 facts;
    struct {
        u32 inheritable[2], permitted[2], effective[2], bounding[2];
        u32 uid, euid, suid, fsuid, gid, egid, sgid, fsgid;
    } credentials;
    struct {
        u64 minflt, cminflt, majflt, cmajflt, utime, stime, cutime, cstime;
        u32 threads, padding;
    } stat;
    struct {
        u64 anon, file, shmem, total_vm, total_rss, hiwater_vm, hiwater_rss, text, lib, swap, ptes, locked_vm,
            pinned_vm, data_vm, stack_vm;
    } statm;
    u64 exec_id; /* with start_time what tells one program instance from all others of this number */
    u32 daemons_pid, daemons_tgid;
};
_Static_assert(sizeof(struct task_record) == 328, "task.rs");

enum facts {
    HAS_MEMORY = 1 << 0,
    DUMPABLE_KNOWN = 1 << 1,
    DUMPABLE = 1 << 2,
    SAME_USER_NS = 1 << 3,
    PTRACE_OVER_TASK = 1 << 4,
    PTRACE_OVER_MEMORY = 1 << 5,
    SAME_THREAD_GROUP = 1 << 6,
    KERNEL_THREAD = 1 << 7,
    UNSETTLED = 1 << 8,
    EXEC_STATE = 1 << 9,
};

/* Bits of request.groups: the protocol's attribute numbers. Those from 32 on come as sections. */
enum groups { STAT = 1 << 4, STATM = 1 << 6 };
enum section_id {
    GROUPS = 33,
    SCHED = 34,
    IO = 35,
    CGROUP = 36,
    NS = 37,
    FD_COUNT = 39,
    ENVIRON = 42,
    MISC = 43,
    MADE_OF = 1 << 15, /* beside one of these: not the payload, but what user space needs for it */
};

enum mode {
    PROCESSES, /* processes numbered first..=last, ascending */
    TASKS,     /* the tasks listed in slot.ids; one that is absent leaves a record with pid 0 */
    THREADS,   /* fills slot.list with the thread ids of `target`'s process in order of creation */
    CHILDREN,  /* fills slot.list with the ids of the children of the very task `target` in order of birth */
};
enum options {
    WITH_THREADS = 1 << 0, /* PROCESSES: after each process's leader its other threads */
    THREAD_STAT = 1 << 1,  /* STAT of the single thread, not the whole process */
    WITH_LINES = 1 << 2,   /* command lines, where they can be told */
};
enum outcome {
    FINISHED,  /* nothing of the range is left */
    MORE,      /* the slot is full: go on with first = next */
    TOO_LARGE, /* process `next` has more threads than the slot holds (or the list does not fit) */
    NO_READER, /* the reader's thread is not there */
    NO_TARGET, /* the target is not there */
    UNSTABLE,  /* the list changed under us again and again */
};

struct request {
    /* in */
    u32 mode, reader, options, first, last, target, limit;
    /* out */
    u32 outcome;
    /* in */
    u64 groups;
    /* out */
    u32 count, next;
};

#define IDS 4096
#define RECORDS 3000
#define LINE_BYTES (512 * 1024)
#define LONGEST_LINE 4096
/* A command line, or the sections of one task, among slot.bytes. */
struct line {
    u32 at, length;
};
#define UNTOLD (~0u) /* to be asked of /proc */
/* Begins each section; the payload follows, then zeros up to a multiple of 8. */
struct section {
    u32 id, length;
};
struct slot {
    struct request request;
    u32 reader_user_ns, reader_pid_ns; /* inode numbers */
    struct task_record reader;
    u32 ids[IDS];
    union {
        struct task_record records[RECORDS];
        u32 list[RECORDS * sizeof(struct task_record) / sizeof(u32)];
    };
    struct line lines[RECORDS], sections[RECORDS]; /* one for each record, where asked for */
    u8 bytes[LINE_BYTES];
};
