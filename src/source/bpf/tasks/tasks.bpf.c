// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* Records of tasks, written straight into memory that the daemon maps.
 *
 * One run answers one question (abi.h: struct request) for one reader, and keeps nothing: the numbers of a pid
 * namespace stand in a radix tree, so that a walk goes on from any number, in ascending order.
 *
 * What keeps it safe: a task found in the tree lives until the end of the RCU read section, and with it its
 * signal_struct, its struct pids, its credentials and those of its parents. Its memory (mm_struct) does not: see
 * read_memory. Every load is checked by the fault handler, every list walk is bounded. */
#include "tasks/gather.h"

#define SECTION 8 /* leaves of 64 numbers in one RCU read section */

/* Beside each slot: the tasks under work, as addresses. Not for user space. */
#define BATCH 64
#define FEW 4 /* Tasks whose cache misses cost less than looking for them. */
struct batch {
    u64 pids[BATCH]; /* a leaf of the tree */
    u64 tasks[BATCH], signals[BATCH], credentials[BATCH], memories[BATCH], counters[BATCH];
    u64 starts[BATCH], entries[BATCH], nodes[BATCH]; /* of command lines, their page tables, their trees of mappings */
    u32 numbers[BATCH];
    struct view view; /* the stack is small */
    u64 sink;
    u32 zero; /* Always 0, but not to the verifier: a counter that starts from a constant is followed value by value. */
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct batch);
} batches SEC(".maps");

/* Learns whose eyes look. The reader's number is one of the daemon's pid namespace. */
static int look_with(struct view *view, u32 reader, struct slot *slot) {
    struct task_struct *daemon = (void *)bpf_get_current_task_btf();
    view->daemons_pid_ns = pid_ns_of(daemon);
    view->daemons_level = daemon->thread_pid->level;
    u64 address = find(view->daemons_pid_ns, reader);
    if (!address) return 0;

    struct task_struct *task = at(struct task_struct, address);
    view->level = task->thread_pid->level;
    view->pid_ns = pid_ns_of(task);
    view->signal = address_in(task, signal);
    view->euid = task->cred->euid.val;
    view->capable = word_at(place(task->cred, cap_effective)) >> CAP_SYS_PTRACE & 1;
    view->depth = task->cred->user_ns->level;
    view->user_ns = address_in(task->cred, user_ns);
    u64 ns = view->user_ns;
    for (int depth = 0; depth < 34; depth++) {
        u64 parent = address_in(at(struct user_namespace, ns), parent);
        if (!parent) break;
        ns = parent;
    }
    view->almighty = view->user_ns == ns && may_ptrace_in(view, ns);
    const u64 files_of_all = 1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH;
    view->unguarded = view->almighty && word_at(place(task->cred, cap_effective)) & files_of_all;
    slot->reader_pid_ns = at(struct pid_namespace, view->pid_ns)->ns.inum;
    slot->reader_user_ns = task->cred->user_ns->ns.inum;
    if (!gather_one(address, 0, view, &slot->reader)) return 0;
    /* A reader counts with the credentials it acts with, which may be borrowed. */
    u64 files = pair(task->cred, fsuid, fsgid);
    slot->reader.credentials.fsuid = files;
    slot->reader.credentials.fsgid = files >> 32;
    *(u64 *)slot->reader.credentials.effective = word_at(place(task->cred, cap_effective));
    return 1;
}

#define task_of_link(link, type)                                                                                       \
    ((link)-bpf_core_field_offset(struct task_struct, pid_links) - (type)*bpf_core_type_size(struct hlist_node))

/* Brings a line of each object into the cache: nothing but loads, that as many as may be wait for memory at once. */
static u64 touch(const u64 *addresses, u32 offset) {
    u64 sink = 0;
#pragma clang loop unroll(full)
    for (int i = 0; i < BATCH; i++) {
        sink += word_at(addresses[i] + offset);
        barrier_var(sink); /* one after the other, or clang keeps all addresses on the small stack */
    }
    return sink;
}

/* Lists the processes among a leaf's numbers from `from` on; returns how many. */
GLOBAL u32 leaders_of(struct batch *batch, u32 from) {
    if (!batch) return 0;
    u32 found = batch->zero, i;
    batch->sink = touch(batch->pids, bpf_core_field_offset(struct pid, tasks));
    bpf_for(i, from, 64) {
        u64 pid = batch->pids[i & 63];
        if (!pid || pid & 3) continue;
        u64 link = address_in(at(struct pid, pid), tasks[PIDTYPE_TGID].first);
        if (!link) continue;
        batch->numbers[found & 63] = i;
        batch->tasks[found++ & 63] = task_of_link(link, PIDTYPE_TGID);
    }
    return found;
}

/* The same for what `read_area` will read: one step of all walks after the other. */
GLOBAL u64 warm_lines(struct batch *batch, u32 count) {
    if (!batch) return 0;
    u64 sink = 0;
    u32 i, shift = top_shift;
    const u32 operations = bpf_core_field_offset(struct vm_area_struct, vm_ops);
    for (int depth = 0; depth < 5; depth++) {
        bpf_for(i, 0, count) {
            u64 node = batch->nodes[i & 63] & ~0xffull;
            if (node) sink += word_at(node) + word_at(node + 64) + word_at(node + 128) + word_at(node + 192);
        }
        bpf_for(i, 0, count) {
            u64 node = batch->nodes[i & 63], area = 0;
            if (node) node = slot_below(node, batch->starts[i & 63]);
            if (IS_LEAF(batch->nodes[i & 63])) area = node, node = 0;
            batch->nodes[i & 63] = node;
            if (area) sink += word_at(area) + word_at(area + operations);
        }
        bpf_for(i, 0, count) {
            u64 place = batch->entries[i & 63], start = batch->starts[i & 63];
            if (!place) continue;
            u64 entry = word_at(place);
            if (shift > 12)
                place = entry_in_next(entry, start, (shift - 9) & 63);
            else
                place = (place = page_of(entry)) ? place + (start & (PAGE - 1)) : 0;
            batch->entries[i & 63] = place;
        }
        if (shift <= 12) break;
        shift -= 9;
    }
    bpf_for(i, 0, count) {
        u64 place = batch->entries[i & 63];
        if (place) sink += word_at(place) + word_at(place + 64);
    }
    return sink;
}

/* Brings what `fill` will read of a batch's tasks into the cache, one kind of object after the other: loads that do
 * not depend on each other wait for memory together. A walk through one task after the other takes half as long again. */
GLOBAL u32 warm(struct batch *batch, struct view *view, u32 count) {
    if (!batch || !view) return 0;
    u32 groups = view->groups, unguarded = view->unguarded, lines = view->options & WITH_LINES, i;
    u32 strings = lines || (direct_map && view->sections >> (ENVIRON - 32) & 1);
    struct mm_struct___plain *plain = 0;
    u64 sink = touch(batch->tasks, bpf_core_field_offset(struct task_struct, signal));
    bpf_for(i, 0, count) {
        struct task_struct *task = at(struct task_struct, batch->tasks[i & 63]);
        batch->credentials[i & 63] = address_in(task, real_cred);
        batch->signals[i & 63] = address_in(task, signal);
        batch->memories[i & 63] = address_in(task, mm);
        sink += task->__state + task->exit_state + address_in(task, real_parent) + address_in(task, thread_pid) +
                task->start_boottime + word_at(place(task, comm) + 8);
        if (groups & STAT) sink += task->utime + task->se.sum_exec_runtime;
    }
    bpf_for(i, 0, count) {
        struct signal_struct *signal = at(struct signal_struct, batch->signals[i & 63]);
        struct mm_struct *mm = at(struct mm_struct, batch->memories[i & 63]);
        struct mm_struct___bitmap *bitmap = (void *)mm;
        struct cred *cred = at(struct cred, batch->credentials[i & 63]);
        sink += cred->uid.val + word_at(place(cred, cap_bset)) + address_in(cred, user_ns);
        sink += address_in(signal, pids[PIDTYPE_TGID]) + address_in(signal, pids[PIDTYPE_SID]);
        if (groups & STAT)
            sink += signal->nr_threads + signal->stats_lock.seqcount.seqcount.sequence + signal->cmin_flt +
                    signal->prev_cputime.utime + signal->sum_sched_runtime;
        batch->entries[i & 63] = batch->nodes[i & 63] = 0;
        if (!batch->memories[i & 63]) continue;
        if (!unguarded) sink += address_in(mm, user_ns) + word_at(place(bitmap, flags));
        if (strings) {
            u64 start = lines ? mm->arg_start : mm->env_start;
            batch->starts[i & 63] = start;
            batch->entries[i & 63] = address_in(mm, pgd) + (start >> (top_shift & 63) & 511) * 8;
            batch->nodes[i & 63] = address_in(mm, mm_mt.ma_root);
            sink += mm->context.tlb_gen.counter + mm->mmap_lock.count.counter + int_at(place(mm, mm_lock_seq));
        }
        if (!(groups & STATM)) continue;
        sink += mm->pgtables_bytes.counter + mm->hiwater_rss + mm->exec_vm + mm->arg_start;
        if (bpf_core_field_exists(plain->rss_stat)) continue;
        sink += mm->rss_stat[2].count + mm->rss_stat[3].count;
        batch->counters[i & 63] = address_in(mm, rss_stat[0].counters);
    }
    if (groups & STATM && !bpf_core_field_exists(plain->rss_stat)) {
        bpf_for(i, 0, count) {
            if (!batch->memories[i & 63]) continue;
            for (u32 cpu = 0; cpu < 4 && cpu < cpus; cpu++)
                sink += int_at(batch->counters[i & 63] + per_cpu_offset[cpu]);
        }
    }
    if (strings) sink += warm_lines(batch, count);
    batch->sink = sink;
    return 0;
}

/* Adds the records of a process's other threads behind its leader's. Returns the new count, or 0 if they do not fit. */
GLOBAL u32 add_threads(u64 address, struct view *view, struct slot *slot, u32 count, u32 limit) {
    if (!view || !slot) return 0;
    struct task_struct *leader = at(struct task_struct, address);
    struct signal_struct *signal = leader->signal;
    u64 head = place(signal, thread_head), link = address_in(signal, thread_head.next);
    bpf_repeat(1 << 22) {
        if (link == head || !link) return count;
        u64 thread = link - bpf_core_field_offset(struct task_struct, thread_node);
        if (thread != address) {
            if (count >= limit || count >= RECORDS) return 0;
            view->line = count;
            count += gather_one(thread, 0, view, &slot->records[count]);
        }
        link = address_in(at(struct task_struct, thread), thread_node.next);
    }
    return 0;
}

static void processes(struct request *request, struct view *view, struct slot *slot, struct batch *batch) {
    u32 id = request->first, last = request->last, limit = request->limit, outcome = MORE, count = batch->zero;
    if (limit > RECORDS) limit = RECORDS;
    bpf_repeat(1 << 16) {
        if (outcome != MORE || count >= limit || is_full(view)) break;
        bpf_rcu_read_lock();
        bpf_repeat(SECTION) {
            u64 leaf = leaf_of(view->pid_ns, &id);
            if (!leaf) {
                if (!id || id > last) outcome = FINISHED;
                if (!id || id > last) break;
                continue;
            }
            bpf_probe_read_kernel(batch->pids, sizeof(batch->pids), (void *)leaf);
            if (batch->pids[id & 63] == RETRY) continue; /* the tree was just being rebuilt */
            u32 base = id & ~63, found = leaders_of(batch, id & 63), i;
            if (found > FEW) warm(batch, view, found);
            id = base + 64;
            bpf_for(i, 0, found) {
                u32 number = base + batch->numbers[i & 63], before = count;
                if (number > last || count >= limit || count >= RECORDS || is_full(view)) {
                    id = number;
                    break;
                }
                u64 task = batch->tasks[i & 63];
                view->line = count;
                if (!gather_one(task, number, view, &slot->records[count])) continue;
                count++;
                if (!(view->options & WITH_THREADS)) continue;
                count = add_threads(task, view, slot, count, limit);
                if (!count) {
                    id = number;
                    count = before;
                    outcome = before ? MORE : TOO_LARGE;
                    limit = 0;
                    break;
                }
            }
            if (id > last || !id) outcome = FINISHED;
            if (outcome != MORE || count >= limit || is_full(view)) break;
        }
        bpf_rcu_read_unlock();
    }
    request->count = count;
    request->next = id;
    request->outcome = outcome;
}

/* The record of each task listed in slot->ids, in that order; of the first ones, if they have much beside the record. */
static void tasks(struct request *request, struct view *view, struct slot *slot, struct batch *batch) {
    u32 count = request->limit, done = batch->zero;
    if (count > RECORDS) count = RECORDS;
    bpf_repeat(RECORDS / BATCH + 1) {
        if (done >= count || view->used > LINE_BYTES / 2) break;
        u32 i;
        bpf_rcu_read_lock();
        bpf_for(i, 0, BATCH) {
            u32 place = done + i;
            batch->tasks[i & 63] = place < count && place < IDS ? find(view->pid_ns, slot->ids[place]) : 0;
        }
        if (count > FEW) warm(batch, view, BATCH);
        bpf_for(i, 0, BATCH) {
            u32 place = done + i;
            if (place >= count || place >= RECORDS) break;
            u64 task = batch->tasks[i & 63];
            view->line = place;
            if (!task || !gather_one(task, slot->ids[place], view, &slot->records[place])) slot->records[place].base.pid = 0;
        }
        bpf_rcu_read_unlock();
        done += BATCH;
    }
    request->count = done < count ? done : count;
    request->outcome = FINISHED;
}

/* The ids of the target's threads, or of its children, into slot->list. */
static void list(struct request *request, struct view *view, struct slot *slot, struct batch *batch) {
    const u32 room = sizeof(slot->list) / sizeof(slot->list[0]);
    u32 children = request->mode == CHILDREN, count = 0;
    u64 address = find(view->pid_ns, request->target);
    request->outcome = NO_TARGET;
    if (!address) return;
    struct task_struct *target = at(struct task_struct, address);
    u64 signal = address_in(target, signal);
    u64 head = children ? address + bpf_core_field_offset(target->children)
                        : signal + bpf_core_field_offset(struct signal_struct, thread_head);
    u64 node = children ? bpf_core_field_offset(target->sibling) : bpf_core_field_offset(target->thread_node);

    request->outcome = UNSTABLE;
    for (int try = 0; try < 8 && request->outcome == UNSTABLE; try++) {
        u64 link = word_at(head);
        count = batch->zero;
        bpf_repeat(1 << 22) {
            if (link == head) request->outcome = FINISHED;
            if (link == head || !link) break;
            struct task_struct *task = at(struct task_struct, link - node);
            u64 next = word_at(link);
            /* The list of children is not made for lock-free readers: one that leaves it points to itself, one that
             * goes over to another parent, which is made its parent first, into that parent's list. Both show, and we
             * begin anew. */
            if (children) smp_rmb();
            if (children && (next == link || address_in(task, real_parent) != address)) break;
            u32 number = number_in(view, address_in(task, thread_pid));
            if (count >= room) {
                request->outcome = TOO_LARGE;
                break;
            }
            if (number) slot->list[count++] = number;
            link = next;
        }
    }
    request->count = count;
}

SEC("syscall")
int gather(struct request *request) {
    u32 key = request->slot;
    struct slot *slot = bpf_map_lookup_elem(&slots, &key);
    struct batch *batch = bpf_map_lookup_elem(&batches, &key);
    if (!slot || !batch) return 1;

    struct view *view = &batch->view;
    *view = (struct view){.groups = request->groups, .slot = key};
    request->outcome = NO_READER;
    bpf_rcu_read_lock();
    int known = look_with(view, request->reader, slot);
    bpf_rcu_read_unlock();
    if (!known) return 0;
    view->options = direct_map ? request->options : request->options & ~WITH_LINES;
    view->sections = request->groups >> 32 & (direct_map ? ~0u : ~(1u << (ENVIRON - 32)));
    view->ahead = view->options & WITH_LINES || request->groups >> 32;
    if (request->mode == PROCESSES)
        processes(request, view, slot, batch);
    else if (request->mode == TASKS)
        tasks(request, view, slot, batch);
    else {
        bpf_rcu_read_lock();
        list(request, view, slot, batch);
        bpf_rcu_read_unlock();
    }
    return 0;
}

/* Run once. */
SEC("syscall")
int prepare(void *context) {
    return !learn_offsets();
}

/* Run by a thread whose memory the samples are: finds where the kernel maps all memory. */
SEC("syscall")
int calibrate(void *context) {
    u64 memory = address_in((struct task_struct *)bpf_get_current_task_btf(), mm);
    struct mm_struct *mm = at(struct mm_struct, memory);
    if (!bpf_core_field_exists(mm->mm_lock_seq) || !bpf_core_field_exists(mm->context.tlb_gen)) return 1;
    flushes = mm->context.tlb_gen.counter;
    return !find_direct_map(memory);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
