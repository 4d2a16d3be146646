/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* From numbers to tasks. */
#pragma once
#include "kernel/kernel.h"
#include "kernel/order.h"

/* A function that the verifier checks once by itself, whoever calls it; so it knows nothing of its arguments, nor of what
 * comes back. (Weak, or the compiler carries over calls what it knows of that, and leaves out checks that the verifier
 * wants to see.) At most eight may call one another, with 512 bytes of stack together: so what a function keeps over its
 * calls stands in a map where it can, and each that only one other calls on such a way is inlined. */
#define GLOBAL __attribute__((noinline, weak))

/* A slot of a tree that leads on to a node. */
#define IS_NODE(entry) (((entry) & 3) == 2 && (entry) > 4096)
#define RETRY ((256 << 2) | 2)

/* The leaf that holds number *id, as an address. Without one: 0, and *id is the next number worth trying, 0 for none. */
GLOBAL u64 leaf_of(u64 pid_ns, u32 *id) {
    if (!id) return 0;
    u64 entry = address_in(at(struct pid_namespace, pid_ns), idr.idr_rt.xa_head);
    u32 number = *id;
    for (int depth = 0; depth < 6; depth++) {
        if (!IS_NODE(entry)) break;
        struct xa_node *node = at(struct xa_node, entry - 2);
        u32 shift = get(node->shift) & 31;
        if (depth == 0 && number >> shift > 63) break;
        if (shift == 0) return entry - 2 + bpf_core_field_offset(node->slots);
        entry = word_at(place(node, slots) + (number >> shift & 63) * 8);
        if (!entry) {
            *id = ((number >> shift) + 1) << shift;
            return 0;
        }
    }
    *id = 0;
    return 0;
}

/* The task whose number in the namespace is `id`, as an address; 0 where there is none. */
GLOBAL u64 find(u64 pid_ns, u32 id) {
    for (int try = 0; try < 4; try++) {
        u32 number = id;
        u64 leaf = leaf_of(pid_ns, &number);
        if (!leaf) return 0;
        u64 pid = word_at(leaf + (id & 63) * 8);
        if (pid == RETRY) continue; /* the tree was just being rebuilt */
        if (!pid || pid & 3) return 0;
        u64 link = address_in(at(struct pid, pid), tasks[PIDTYPE_PID].first);
        return link ? link - bpf_core_field_offset(struct task_struct, pid_links) : 0;
    }
    return 0;
}

/* The pid namespace in which a task lives, as an address. */
static u64 pid_ns_of(struct task_struct *task) {
    struct pid *pid = at(struct pid, (u64)get(task->thread_pid));
    struct upid *innermost = upid_at(pid, get(pid->level));
    return word_at(place(innermost, ns));
}

/* What no two programs that a task runs have in common: every exec raises it, at its point of no return. */
#define program_of(task) fresh((task)->self_exec_id)

/* Is the task between taking the new program's memory and its credentials? What is read then belongs to neither. */
static bool between_programs(struct task_struct *task) {
    if (bpf_core_field_exists(task->in_execve) && !get_bit(task, in_execve)) return 0;
    return !bpf_core_field_exists(task->signal->exec_update_lock.count) ||
           fresh(get(task->signal)->exec_update_lock.count.counter) & 1;
}
