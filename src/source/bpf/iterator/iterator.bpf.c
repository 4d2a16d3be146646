// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* Records of tasks for kernels without the functions that tasks.bpf.c calls: the kernel itself walks, in order of the
 * numbers that tasks have in the pid namespace of whoever opened the walk, and shows this program one after the other.
 *
 * Each run is an RCU read section of its own in which the task is held, so what tasks.bpf.c says of a task's parts goes
 * here as well: signal_struct, pids and credentials live on, the memory may be freed and is checked by `fill`.
 *
 * In whose walk it runs is told by who reads: each thread of the daemon leaves its question under its own number. */
#define TYPED_POINTERS
#include "tasks/record.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct bpf_iter_meta {
    struct seq_file *seq;
};
struct bpf_iter__task {
    struct bpf_iter_meta *meta;
    struct task_struct *task;
};
#pragma clang attribute pop

/* iterator.rs: Question */
struct question {
    u32 groups, options, first, last; /* those numbered first..=last */
    u32 reader_tgid, reader_euid, reader_may_ptrace, unused;
};
enum question_options { /* beside THREAD_STAT */
    LEADERS = 1 << 8,    /* leaders only */
    BY_PROCESS = 1 << 9, /* first and last are numbers of processes */
    PREPARE = 1 << 10,   /* learn where percpu objects are; a record means that it failed */
};

struct work {
    struct question question;
    struct view view;
    struct task_record record;
};

enum { BPF_MAP_TYPE_HASH = 1 };
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct work);
} works SEC(".maps");

/* The reader lives in the namespaces of the daemon, whose thread runs this. */
static void look(struct view *view, const struct question *question, struct task_struct *current) {
    struct user_namespace *user_ns = current->cred->user_ns;
    view->level = current->thread_pid->level;
    view->pid_ns = pid_ns_of(current);
    view->daemons_level = view->level;
    view->daemons_pid_ns = view->pid_ns;
    view->user_ns = (u64)user_ns;
    view->signal = 0;
    view->euid = question->reader_euid;
    view->capable = question->reader_may_ptrace;
    view->depth = user_ns->level;
    view->groups = question->groups;
    view->options = question->options & THREAD_STAT;
    view->almighty = view->unguarded = view->capable && !address_in(user_ns, parent);
    view->judged = 0;
    view->judged_ns = 1;
    forget_sums(view);
}

SEC("iter/task")
int each_task(struct bpf_iter__task *context) {
    struct mm_struct___plain *plain = 0;
    struct task_struct *task = context->task, *current = bpf_get_current_task_btf();
    if (!task) return 0;

    struct pid *pid = current->thread_pid;
    u32 key = far_int(place(upid_at(pid, pid->level), nr));
    struct work *work = bpf_map_lookup_elem(&works, &key);
    if (!work) return 0;
    u32 options = work->question.options;
    if (options & PREPARE) {
        if (bpf_core_field_exists(plain->rss_stat) || per_cpu_offset[0] || learn_offsets()) return 0;
        work->record.base.pid = ~0u;
        bpf_seq_write(context->meta->seq, &work->record, sizeof(work->record));
        return 0;
    }
    if (options & LEADERS && task->pid != task->tgid) return 0;

    struct view *view = &work->view;
    struct task_record *record = &work->record;
    look(view, &work->question, current);
    u32 number = options & BY_PROCESS ? process_of(view, task) : number_in(view, address_in(task, thread_pid));
    if (number < work->question.first) return 0;
    if (number > work->question.last) {
        if (options & BY_PROCESS) return 0;
        record->base.pid = 0; /* an empty record: all that come have higher numbers, so the walk can end */
    } else {
        int result = CHANGED;
        for (int try = 0; try < 4 && result == CHANGED; try++) result = fill((u64)task, 0, view, record);
        if (result == GONE || !record->base.pid) return 0;
        if (result == CHANGED) unsettle(record);
        if (result == FILLED && record->base.tgid == work->question.reader_tgid) record->facts |= SAME_THREAD_GROUP;
    }
    bpf_seq_write(context->meta->seq, record, sizeof(*record));
    return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
