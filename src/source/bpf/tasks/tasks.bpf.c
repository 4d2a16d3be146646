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
#define LONGEST_RUN 20000000 /* ns, but for what 64 tasks take */
#define FEW 4 /* Tasks whose cache misses cost less than looking for them. */
struct batch {
    u64 pids[BATCH]; /* a leaf of the tree */
    u64 tasks[BATCH], signals[BATCH], credentials[BATCH], memories[BATCH], counters[BATCH];
    u64 starts[BATCH], entries[BATCH], nodes[BATCH]; /* of command lines, their page tables, their trees of mappings */
    u32 numbers[BATCH];
    struct view view; /* the stack is small */
    struct request request;
    /* Of the leaf at hand: its first number, how many processes it has, which comes next. */
    u32 base, found, at;
    /* The number of the task at hand; how many records there were before its process; that process's leader, where its list
     * of threads begins, and what of it comes next. */
    u32 number, before;
    u64 leader, head, link;
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
GLOBAL u32 look_with(struct view *view, u32 reader, struct slot *slot) {
    if (!view || !slot) return 0;
    struct task_struct *daemon = current_task();
    view->daemons_pid_ns = pid_ns_of(daemon);
    view->daemons_level = get(get(daemon->thread_pid)->level);
    u64 address = find(view->daemons_pid_ns, reader);
    if (!address) return 0;

    struct task_struct *task = at(struct task_struct, address);
    view->level = get(get(task->thread_pid)->level);
    view->pid_ns = pid_ns_of(task);
    view->signal = address_in(task, signal);
    view->euid = get(get(task->cred)->euid.val);
    view->capable = word_at(place(get(task->cred), cap_effective)) >> CAP_SYS_PTRACE & 1;
    view->depth = get(get(get(task->cred)->user_ns)->level);
    view->user_ns = address_in(get(task->cred), user_ns);
    u64 ns = view->user_ns;
    for (int depth = 0; depth < 34; depth++) {
        u64 parent = address_in(at(struct user_namespace, ns), parent);
        if (!parent) break;
        ns = parent;
    }
    view->almighty = view->user_ns == ns && may_ptrace_in(view, ns);
    const u64 files_of_all = 1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH;
    view->unguarded = view->almighty && word_at(place(get(task->cred), cap_effective)) & files_of_all;
    slot->reader_pid_ns = get(at(struct pid_namespace, view->pid_ns)->ns.inum);
    slot->reader_user_ns = get(get(get(task->cred)->user_ns)->ns.inum);
    if (!gather_one(address, 0, view, &slot->reader)) return 0;
    /* A reader counts with the credentials it acts with, which may be borrowed. */
    u64 files = pair(get(task->cred), fsuid, fsgid);
    slot->reader.credentials.fsuid = files;
    slot->reader.credentials.fsgid = files >> 32;
    *(u64 *)slot->reader.credentials.effective = word_at(place(get(task->cred), cap_effective));
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
    if (!PROBING) batch->sink = touch(batch->pids, bpf_core_field_offset(struct pid, tasks));
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
GLOBAL u32 warm_lines(struct batch *batch, u32 count) {
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
    batch->sink = sink;
    return 0;
}

/* The tasks themselves, and where their parts are. */
GLOBAL u32 warm_tasks(struct batch *batch, struct view *view, u32 count) {
    if (!batch || !view) return 0;
    u64 sink = touch(batch->tasks, bpf_core_field_offset(struct task_struct, signal));
    u32 i;
    bpf_for(i, 0, count) {
        struct task_struct *task = at(struct task_struct, batch->tasks[i & 63]);
        batch->credentials[i & 63] = address_in(task, real_cred);
        batch->signals[i & 63] = address_in(task, signal);
        batch->memories[i & 63] = address_in(task, mm);
        sink += get(task->__state) + get(task->exit_state) + address_in(task, real_parent) + address_in(task, thread_pid) +
                get(task->start_boottime) + word_at(place(task, comm) + 8);
        if (view->groups & STAT) sink += get(task->utime) + get(task->se.sum_exec_runtime);
    }
    batch->sink = sink;
    return 0;
}

/* Their credentials and signal_structs, and who may see their memory. */
GLOBAL u32 warm_rights(struct batch *batch, struct view *view, u32 count) {
    if (!batch || !view) return 0;
    u64 sink = 0, owner;
    u32 i;
    bpf_for(i, 0, count) {
        struct signal_struct *signal = at(struct signal_struct, batch->signals[i & 63]);
        struct cred *cred = at(struct cred, batch->credentials[i & 63]);
        sink += get(cred->uid.val) + word_at(place(cred, cap_bset)) + address_in(cred, user_ns);
        sink += address_in(signal, pids[PIDTYPE_TGID]) + address_in(signal, pids[PIDTYPE_SID]);
        if (view->groups & STAT)
            sink += get(signal->nr_threads) + get(signal->stats_lock.seqcount.seqcount.sequence) + get(signal->cmin_flt) +
                    get(signal->prev_cputime.utime) + get(signal->sum_sched_runtime);
        if (!view->unguarded) sink += guard_of(at(struct task_struct, batch->tasks[i & 63]), batch->memories[i & 63], &owner);
    }
    batch->sink = sink;
    return 0;
}

/* Their memory descriptors. */
GLOBAL u32 warm_memories(struct batch *batch, struct view *view, u32 count) {
    if (!batch || !view) return 0;
    struct mm_struct___plain *plain = 0;
    u64 sink = 0;
    u32 i;
    bpf_for(i, 0, count) {
        struct mm_struct *mm = at(struct mm_struct, batch->memories[i & 63]);
        if (!batch->memories[i & 63]) continue;
        sink += get(mm->pgtables_bytes.counter) + get(mm->hiwater_rss) + get(mm->exec_vm) + get(mm->arg_start);
        if (bpf_core_field_exists(plain->rss_stat)) continue;
        sink += get(mm->rss_stat[2].count) + get(mm->rss_stat[3].count);
        batch->counters[i & 63] = address_in(mm, rss_stat[0].counters);
    }
    if (!bpf_core_field_exists(plain->rss_stat)) {
        bpf_for(i, 0, count) {
            if (!batch->memories[i & 63]) continue;
            for (u32 cpu = 0; cpu < 4 && cpu < cpus; cpu++)
                sink += int_at(batch->counters[i & 63] + per_cpu_offset[cpu]);
        }
    }
    batch->sink = sink;
    return 0;
}

/* Where the walks begin by which `read_area` reads command lines or, without those, environments. */
GLOBAL u32 begin_lines(struct batch *batch, u32 count, u32 lines) {
    if (!batch) return 0;
    u64 sink = 0;
    u32 i;
    bpf_for(i, 0, count) {
        struct mm_struct *mm = at(struct mm_struct, batch->memories[i & 63]);
        batch->entries[i & 63] = batch->nodes[i & 63] = 0;
        if (!batch->memories[i & 63]) continue;
        u64 start = lines ? get(mm->arg_start) : get(mm->env_start);
        batch->starts[i & 63] = start;
        batch->entries[i & 63] = top_entry(batch->memories[i & 63], start);
        batch->nodes[i & 63] = address_in(mm, mm_mt.ma_root);
        sink += pages_given_back(mm) + being_written(mm) + lock_sequence(mm);
    }
    batch->sink = sink;
    return 0;
}

/* Brings what `fill` will read of a batch's tasks into the cache, one kind of object after the other: loads that do
 * not depend on each other wait for memory together. A walk through one task after the other takes half as long again. */
GLOBAL u32 warm(struct batch *batch, struct view *view, u32 count) {
    if (!batch || !view || PROBING) return 0;
    u32 lines = view->options & WITH_LINES;
    warm_tasks(batch, view, count);
    warm_rights(batch, view, count);
    if (view->groups & STATM) warm_memories(batch, view, count);
    if ((takes(CMDLINE) && lines) || (takes(ENVIRON) && direct_map && view->sections >> (ENVIRON - 32) & 1)) {
        begin_lines(batch, count, lines);
        warm_lines(batch, count);
    }
    return 0;
}

/* Finds the processes of the next leaf, from request->next on. */
GLOBAL u32 next_leaders(struct view *view, struct batch *batch) {
    if (!view || !batch) return 0;
    struct request *request = &batch->request;
    batch->found = batch->at = 0;
    batch->link = 0;
    u64 leaf = leaf_of(view->pid_ns, &request->next);
    if (leaf) {
        bpf_probe_read_kernel(batch->pids, sizeof(batch->pids), (void *)leaf);
        u32 id = request->next;
        if (batch->pids[id & 63] == RETRY) return 0; /* the tree was just being rebuilt */
        batch->found = leaders_of(batch, id & 63);
        if (batch->found > FEW) warm(batch, view, batch->found);
        batch->base = id & ~63;
        request->next = batch->base + 64;
    }
    return 0;
}

/* The next task of the leaf: the next thread of the process at hand, or else the next process; 0 for none. Its number goes
 * to batch->number, 0 for that of a thread. */
GLOBAL u64 next_task(struct view *view, struct batch *batch) {
    if (!view || !batch) return 0;
    batch->number = 0;
    u64 link = batch->link;
    for (int leader = 0; leader < 2 && link && link != batch->head; leader++) {
        u64 thread = link - bpf_core_field_offset(struct task_struct, thread_node);
        batch->link = link = address_in(at(struct task_struct, thread), thread_node.next);
        if (thread != batch->leader) return thread;
    }
    u32 nth = batch->at;
    if (nth >= batch->found) return 0;
    u64 leader = batch->tasks[nth & 63];
    batch->at = nth + 1;
    batch->number = batch->base + batch->numbers[nth & 63];
    batch->link = 0;
    if (view->options & WITH_THREADS) {
        u64 signal = address_in(at(struct task_struct, leader), signal);
        batch->leader = leader;
        batch->before = batch->request.count;
        batch->head = signal + bpf_core_field_offset(struct signal_struct, thread_head);
        batch->link = word_at(batch->head);
    }
    return leader;
}

/* Ends the walk before the process at hand, of which not all threads were added. */
static bool leave_process(struct batch *batch) {
    struct request *request = &batch->request;
    request->limit = 0;
    request->count = batch->before;
    request->next = batch->base + batch->numbers[(batch->at - 1) & 63];
    if (!batch->before) request->outcome = TOO_LARGE;
    return 0;
}

/* Has the task at hand room in the slot? Without, the walk ends, to go on with that process. */
static bool has_room(struct view *view, struct batch *batch) {
    struct request *request = &batch->request;
    u32 number = batch->number;
    if (number > request->last) {
        request->outcome = FINISHED;
        request->next = number;
        return 0;
    }
    if (request->count < request->limit && !(number && is_full(view))) return 1;
    if (!number) return leave_process(batch);
    request->limit = 0;
    request->next = number;
    return 0;
}

/* Adds the tasks of the leaf at hand. Returns whether the walk goes on. */
GLOBAL u32 add_tasks(struct view *view, struct slot *slot, struct batch *batch) {
    if (!view || !slot || !batch) return 0;
    struct request *request = &batch->request;
    bpf_repeat(1 << 22) {
        u64 task = next_task(view, batch);
        if (!task) break;
        u32 count = request->count;
        if (!has_room(view, batch) || count >= RECORDS) return 0;
        view->line = count;
        if (gather_one(task, batch->number, view, &slot->records[count]))
            request->count = count + 1;
        else if (batch->number)
            batch->link = 0;
    }
    /* Not all rounds that the leaf takes may have been left (kernel.h). */
    if (batch->link && batch->link != batch->head) return leave_process(batch);
    if (batch->at < batch->found) {
        request->next = batch->base + batch->numbers[batch->at & 63];
        return request->count < request->limit && !is_full(view);
    }
    if (!request->next || request->next > request->last) request->outcome = FINISHED;
    return request->outcome == MORE && request->count < request->limit && !is_full(view);
}

GLOBAL u32 processes(struct view *view, struct slot *slot, struct batch *batch) {
    if (!view || !slot || !batch) return 0;
    u32 more = 1;
    batch->request.next = batch->request.first;
    batch->request.outcome = MORE;
    bpf_repeat(PROBING ? 64 : 1 << 16) {
        if (!more) break;
        bpf_rcu_read_lock();
        forget_sums(view);
        bpf_repeat(SECTION) {
            next_leaders(view, batch);
            more = add_tasks(view, slot, batch);
            if (!more) break;
        }
        bpf_rcu_read_unlock();
    }
    return 0;
}

/* The task that is listed there; 0 for none. */
GLOBAL u64 find_listed(struct view *view, struct slot *slot, struct batch *batch, u32 place) {
    if (!view || !slot || !batch) return 0;
    return place < batch->request.limit && place < IDS ? find(view->pid_ns, slot->ids[place]) : 0;
}

/* Finds the tasks of slot->ids from `done` on, as many as fit a batch. */
GLOBAL u32 next_listed(struct view *view, struct slot *slot, struct batch *batch, u32 done) {
    if (!view || !slot || !batch) return 0;
    u32 count = batch->request.limit, i;
    bpf_for(i, 0, BATCH) {
        batch->tasks[i & 63] = find_listed(view, slot, batch, done + i);
    }
    if (count > FEW) warm(batch, view, BATCH);
    return 0;
}

/* Adds one of them, whose task is 0 if there is none. */
GLOBAL u32 add_listed(struct view *view, struct slot *slot, u32 place, u64 task) {
    if (!view || !slot || place >= RECORDS) return 0;
    struct task_record *record = &slot->records[place];
    view->line = place;
    if (!task || !gather_one(task, slot->ids[place], view, record)) record->base.pid = 0;
    return 0;
}

/* The record of each task listed in slot->ids, in that order; of the first ones, if they have much beside the record. */
GLOBAL u32 tasks(struct view *view, struct slot *slot, struct batch *batch) {
    if (!view || !slot || !batch) return 0;
    struct request *request = &batch->request;
    u32 done = batch->zero, count = request->limit;
    u64 began = bpf_ktime_get_ns();
    bpf_repeat(PROBING ? 4 : RECORDS / BATCH + 1) {
        /* Whoever lists threads of many processes in turn has each of those summed up again. */
        if (done >= count || view->used > LINE_BYTES / 2 || (done && bpf_ktime_get_ns() - began > LONGEST_RUN)) break;
        u32 i;
        bpf_rcu_read_lock();
        forget_sums(view);
        next_listed(view, slot, batch, done);
        bpf_for(i, 0, BATCH) {
            if (done + i >= count) break;
            add_listed(view, slot, done + i, batch->tasks[i & 63]);
        }
        bpf_rcu_read_unlock();
        done += BATCH;
    }
    request->count = done < count ? done : count;
    request->outcome = FINISHED;
    return 0;
}

/* The ids on a list of tasks into slot->list: the nodes of the list stand at that offset. `parent` is that of all, where
 * they are children. An outcome; UNSTABLE if the list changed. */
GLOBAL u32 walk_list(struct view *view, struct slot *slot, u64 head, u32 node, u64 parent) {
    const u32 room = sizeof(slot->list) / sizeof(slot->list[0]);
    if (!view || !slot) return UNSTABLE;
    u64 link = word_at(head);
    bpf_repeat(1 << 22) {
        if (link == head) return FINISHED;
        if (!link) return UNSTABLE;
        struct task_struct *task = at(struct task_struct, link - node);
        u64 next = word_at(link);
        /* The list of children is not made for lock-free readers: one that leaves it points to itself, one that
         * goes over to another parent, which is made its parent first, into that parent's list. Both show, and we
         * begin anew. */
        if (parent) smp_rmb();
        if (parent && (next == link || address_in(task, real_parent) != parent)) return UNSTABLE;
        u32 number = number_in(view, address_in(task, thread_pid)), count = view->listed;
        if (count >= room) return TOO_LARGE;
        if (number) {
            slot->list[count] = number;
            view->listed = count + 1;
        }
        link = next;
    }
    return UNSTABLE;
}

/* The ids of the target's threads, or of its children, into slot->list. */
GLOBAL u32 list(struct view *view, struct slot *slot, struct batch *batch) {
    if (!view || !slot || !batch) return 0;
    struct request *request = &batch->request;
    u64 address = find(view->pid_ns, request->target);
    request->outcome = NO_TARGET;
    if (!address) return 0;
    u32 children = request->mode == CHILDREN;
    u64 signal = address_in(at(struct task_struct, address), signal);
    u64 head = children ? address + bpf_core_field_offset(struct task_struct, children)
                        : signal + bpf_core_field_offset(struct signal_struct, thread_head);
    u32 node = children ? bpf_core_field_offset(struct task_struct, sibling)
                        : bpf_core_field_offset(struct task_struct, thread_node);
    for (int try = 0; try < 8; try++) {
        view->listed = 0;
        request->outcome = walk_list(view, slot, head, node, children ? address : 0);
        if (request->outcome != UNSTABLE) break;
    }
    request->count = view->listed;
    return 0;
}

SEC(PROGRAM)
int gather(struct run *context) {
    u32 key = context->slot;
    struct slot *slot = bpf_map_lookup_elem(&slots, &key);
    struct batch *batch = bpf_map_lookup_elem(&batches, &key);
    if (!slot || !batch) return 1;
    struct request *request = &slot->request;

    struct view *view = &batch->view;
    *view = (struct view){.groups = request->groups, .slot = key};
    batch->request = *request;
    batch->request.outcome = NO_READER;
    batch->request.count = batch->zero;
    if (request->limit > RECORDS) batch->request.limit = RECORDS;
    bpf_rcu_read_lock();
    u32 known = look_with(view, request->reader, slot);
    bpf_rcu_read_unlock();
    if (known) {
        view->options = direct_map ? request->options : request->options & ~WITH_LINES;
        view->sections = request->groups >> 32 & (direct_map ? ~0u : ~(1u << (ENVIRON - 32)));
        view->ahead = view->options & WITH_LINES || request->groups >> 32;
        if (request->mode == PROCESSES)
            processes(view, slot, batch);
        else if (request->mode == TASKS)
            tasks(view, slot, batch);
        else {
            bpf_rcu_read_lock();
            list(view, slot, batch);
            bpf_rcu_read_unlock();
        }
    }
    request->outcome = batch->request.outcome;
    request->count = batch->request.count;
    request->next = batch->request.next;
    return 0;
}

/* Run once. */
SEC(PROGRAM)
int prepare(void *context) {
    return !learn_offsets();
}

/* Run by a thread whose memory the samples are: finds where the kernel maps all memory. */
SEC(PROGRAM)
int calibrate(void *context) {
    u64 memory = address_in(current_task(), mm);
    return !find_direct_map(memory);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
