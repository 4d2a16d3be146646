// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* The memory mappings of listed tasks, with their names.
 *
 * The tree of mappings is walked without its lock, as the kernel's own page fault path does, so no target is ever
 * held up and no held-up target holds us up. What was read counts only if the sequence number that every writer
 * raises stood still, and the task kept that memory, from beginning to end: else it is read again, and in the end
 * left to /proc. A run is one RCU read section.
 *
 * Before Linux 6.4 there is no such number. There all mappings are looked at twice: each must be found again at its
 * place, say the same of itself, and that it is one of this memory, as one that was given up may be another's at once. */
#include "memory/memory.h"
#include "files/path.h"
#include "mappings/abi.h"

#define TRIES 6
#define MAYBE_BACKING (3 << 24)
#define OVERLAYFS 0x794c7630
#define FUSE 0x65735546

enum node_kind { LEAF = 1, RANGE = 2, ALLOC_RANGE = 3 };

const volatile u32 page_shift = 12;

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct mapping_slot);
} mapping_slots SEC(".maps");

struct work {
    u64 leaf[32];
    u64 areas[16];
    struct naming naming;
    u64 last_file; /* the file of the mapping before, and its bucket */
    u32 last_bucket;
    u32 count, zero;
    u32 described; /* mappings in this run, those of futile tries too */
    u64 resume, sink;
    u64 last; /* the last address that the leaf at hand covers */
    /* What must stand still while a task is answered, and where its answer began. */
    u64 program, memory, credentials, first_address;
    u32 sequence, first, names;
    u64 mount, entry, inode; /* of the file at hand */
    u64 seen, seen_again;    /* what mappings say of themselves, at the first look and at the second */
    u32 left;                /* to be looked at again */
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct work);
} works SEC(".maps");

/* One step down the tree of mappings: the entry below a node that covers `address`. *last, the end of what the node
 * covers, becomes that of the entry. */
GLOBAL u64 entry_below(u64 node, u64 kind, u64 address, u64 *last) {
    if (!last) return 0;
    u64 pivots = node, slots = node, end = *last;
    u32 size = kind == ALLOC_RANGE ? 10 : 16, chosen = size - 1, i;
    if (kind == ALLOC_RANGE) {
        pivots += bpf_core_field_offset(struct maple_arange_64, pivot);
        slots += bpf_core_field_offset(struct maple_arange_64, slot);
    } else {
        pivots += bpf_core_field_offset(struct maple_range_64, pivot);
        slots += bpf_core_field_offset(struct maple_range_64, slot);
    }
    bpf_for(i, 0, size - 1) {
        u64 pivot = word_at(pivots + i * 8);
        if (!pivot && i) pivot = end;
        if (address > pivot) continue;
        if (pivot < end) end = pivot;
        chosen = i;
        break;
    }
    *last = end;
    return word_at(slots + chosen * 8);
}

/* The leaf node of the mapping tree that covers `address`, and the last address that it covers. */
GLOBAL u64 leaf_of_memory(u64 memory, u64 address, u64 *last) {
    if (!last) return 0;
    u64 entry = address_in(at(struct mm_struct, memory), mm_mt.ma_root);
    *last = ~0ull;
    for (int depth = 0; depth < 8; depth++) {
        if (depth ? !entry : !IS_NODE(entry)) return 0;
        u64 node = entry & ~0xffull, kind = entry >> 3 & 15;
        if (kind == LEAF) return node;
        if (kind != RANGE && kind != ALLOC_RANGE) return 0;
        entry = entry_below(node, kind, address, last);
    }
    return 0;
}

/* A name given as text: [heap] and its like, or `[anon:` and bytes of the kernel and `]`. */
GLOBAL u32 name_text(struct naming *naming, struct names *names, u64 text, u64 prefix, u32 prefix_length) {
    if (!naming || !names) return 0;
    u32 begin = naming->end, end = begin + sizeof(u32);
    if (begin > NAMES - LONGEST) return 0;
    if (prefix_length) {
        for (u32 i = 0; i < 16 && i < prefix_length; i++) names->bytes[end++ & (NAMES - 1)] = prefix >> (i * 8);
    }
    if (text) {
        if (end > NAMES - LONGEST) return 0;
        s64 length = bpf_probe_read_kernel_str(&names->bytes[end], 128, (void *)text);
        if (length <= 1 || (!prefix_length && names->bytes[end & (NAMES - 1)] != '[')) return 0;
        end += length - 1;
        if (prefix_length) names->bytes[end++ & (NAMES - 1)] = ']';
    }
    *(u32 *)&names->bytes[begin & (NAMES - 1) & ~3u] = end - begin - sizeof(u32);
    naming->end = (end + 3) & ~3u;
    return begin;
}

/* Finds what a mapped file is called by: work->mount, entry and inode. */
GLOBAL u32 find_path(struct work *work, u64 address) {
    if (!work) return 0;
    struct file *file = at(struct file, address);
    u64 path = address + bpf_core_field_offset(file->f_path);
    work->inode = address_in(file, f_inode);
    if (get(file->f_mode) & MAYBE_BACKING && bpf_core_type_exists(struct backing_file)) {
        /* The file that overlayfs (or FUSE) maps in place of the one the user opened, which stands behind it. Which of
         * two bits says so depends on the kernel; a plain file has no path into such a file system there. */
        u64 user_path = address + bpf_core_field_offset(struct backing_file, user_path);
        struct dentry *opened = at(struct dentry, address_in(at(struct path, user_path), dentry));
        u64 kind = get(get(opened->d_sb)->s_magic);
        if (kind == OVERLAYFS || kind == FUSE) {
            path = user_path;
            work->inode = address_in(opened, d_inode);
        }
    }
    work->mount = address_in(at(struct path, path), mnt);
    work->entry = address_in(at(struct path, path), dentry);
    return 0;
}

/* A mapping of a file. */
static __always_inline void describe_file(struct work *work, struct mapping_slot *slot, struct mapping *mapping, u64 file) {
    struct naming *naming = &work->naming;
    if (file != work->last_file) {
        find_path(work, file);
        work->last_bucket = find_bucket(naming, work->mount, work->entry, work->inode);
        name_bucket(naming, &slot->names, work->last_bucket);
        work->last_file = file;
    }
    struct named_file *named = &naming->files[work->last_bucket & (BUCKETS - 1)];
    mapping->inode = named->number_low | (u64)named->number_high << 32;
    mapping->device = named->device;
    mapping->generation = named->generation;
    mapping->kind = named->name ? FROM_FILE : UNRESOLVED;
    mapping->name = named->name;
}

/* The name of a mapping of no file. Every one that its operations give comes from a vm_special_mapping: [vdso], [vvar],
 * [uprobes] ... */
GLOBAL u32 name_anonymous(struct work *work, struct names *names, u64 address, u64 memory, u64 anon_name) {
    if (!work || !names) return 0;
    struct vm_area_struct *area = at(struct vm_area_struct, address);
    struct mm_struct *mm = at(struct mm_struct, memory);
    u64 operations = address_in(area, vm_ops), start = get(area->vm_start), end = get(area->vm_end);
    if (operations && address_in(at(struct vm_operations_struct, operations), name)) {
        u64 special = address_in(area, vm_private_data);
        return name_text(&work->naming, names, address_in(at(struct vm_special_mapping, special), name), 0, 0);
    }
    if (start < get(mm->brk) && end > get(mm->start_brk))
        return name_text(&work->naming, names, 0, 0x5d706165685bull /* [heap] */, 6);
    if (start <= get(mm->start_stack) && end >= get(mm->start_stack))
        return name_text(&work->naming, names, 0, 0x5d6b636174735bull /* [stack] */, 7);
    return anon_name ? name_text(&work->naming, names, anon_name, 0x3a6e6f6e615bull /* [anon: */, 6) : 0;
}

/* What a mapping says of itself, mixed into what those before it do. */
static u64 mix(u64 seen, u64 address, u64 start, u64 end, u64 flags, u64 offset, u64 file) {
    const u64 prime = 0x9e3779b97f4a7c15ull;
    u64 parts[] = {address, start, end, flags, offset, file};
    for (int i = 0; i < 6; i++) {
        seen = (seen ^ parts[i]) * prime;
        seen ^= seen >> 29;
    }
    return seen;
}

/* One mapping. */
GLOBAL u32 describe(struct work *work, struct mapping_slot *slot, struct mapping *mapping, u64 address, u64 memory) {
    if (!work || !slot || !mapping) return 0;
    struct vm_area_struct *area = at(struct vm_area_struct, address);
    u64 file = address_in(area, vm_file);
    mapping->start = get(area->vm_start);
    mapping->end = get(area->vm_end);
    mapping->flags = get(area->vm_flags);
    if (!is_sequenced())
        work->seen = mix(work->seen, address, mapping->start, mapping->end, mapping->flags, get(area->vm_pgoff), file);
    u64 anon_name = bpf_core_field_exists(area->anon_name) ? address_in(area, anon_name) : 0;
    if (anon_name) anon_name += bpf_core_field_offset(struct anon_vma_name, name);
    if (file) {
        mapping->offset = (u64)get(area->vm_pgoff) << page_shift;
        describe_file(work, slot, mapping, file);
        if (anon_name) mapping->kind = UNRESOLVED;
        return 1;
    }
    mapping->offset = 0;
    mapping->inode = 0;
    mapping->device = mapping->generation = 0;
    mapping->kind = ANONYMOUS;
    mapping->name = name_anonymous(work, &slot->names, address, memory, anon_name);
    return 1;
}

/* Finds the mappings of a leaf, from `address` on, and has all of them brought into the cache together: nothing but
 * loads, that as many as may be wait at once. Returns how many. (For itself, as older verifiers tell rounds of a loop
 * apart by what nobody reads any more.) */
GLOBAL u32 find_areas(struct work *work, u64 address) {
    if (!work) return 0;
    u32 pivots = bpf_core_field_offset(struct maple_range_64, pivot) / 8,
        slots = bpf_core_field_offset(struct maple_range_64, slot) / 8, found = work->zero, i;
    u64 sink = 0, last = work->last;
    bpf_for(i, 0, 16) {
        u64 pivot = i < 15 ? work->leaf[(pivots + i) & 31] : last, area = work->leaf[(slots + i) & 31];
        if (!pivot && i) pivot = last;
        if (area && !(area & 3) && pivot >= address) work->areas[found++ & 15] = area;
        if (pivot >= last) break;
    }
    const u32 first = bpf_core_field_offset(struct vm_area_struct, vm_start),
              second = bpf_core_field_offset(struct vm_area_struct, vm_file);
#pragma clang loop unroll(full)
    for (int k = 0; !PROBING && k < 16; k++) sink += word_at(work->areas[k] + first) + word_at(work->areas[k] + second);
    work->sink = sink;
    return found;
}

/* Looks at the mappings of a leaf again. Returns whether the second look is to go on. */
GLOBAL u32 look_again(struct work *work, u32 found) {
    if (!work) return 0;
    u32 i;
    bpf_for(i, 0, found) {
        struct vm_area_struct *area = at(struct vm_area_struct, work->areas[i & 15]);
        if (!work->left || address_in(area, vm_mm) != work->memory) return 0;
        work->left--;
        work->seen_again = mix(work->seen_again, work->areas[i & 15], get(area->vm_start), get(area->vm_end),
                               get(area->vm_flags), get(area->vm_pgoff), address_in(area, vm_file));
    }
    return 1;
}

/* Are the mappings that were appended last still there, one by one, and without others between? */
GLOBAL u32 same_again(struct work *work) {
    if (!work) return 0;
    u64 address = work->first_address;
    work->seen_again = 0;
    work->left = work->count - work->first;
    bpf_repeat(1 << 16) {
        if (!work->left) break;
        u64 leaf = leaf_of_memory(work->memory, address, &work->last);
        if (!leaf) break;
        bpf_probe_read_kernel(work->leaf, sizeof(work->leaf), (void *)leaf);
        if (!look_again(work, find_areas(work, address)) || work->last == ~0ull) break;
        address = work->last + 1;
    }
    return !work->left && work->seen_again == work->seen;
}

/* Appends the mappings that were found. Returns a target_state. */
GLOBAL u32 add_found(struct work *work, struct mapping_slot *slot, u32 found, u32 limit) {
    if (!work || !slot) return BUSY;
    u32 i;
    bpf_for(i, 0, found) {
        u32 count = work->count;
        u64 area = work->areas[i & 15];
        barrier_var(count);
        if (count >= limit || count >= MAPPINGS || work->naming.end > NAMES - 2 * LONGEST) {
            work->resume = get(at(struct vm_area_struct, area)->vm_start);
            return PARTIAL;
        }
        describe(work, slot, &slot->mappings[count], area, work->memory);
        work->count = count + 1;
    }
    return COMPLETE;
}

/* Appends the mappings of one memory from work->resume on. Returns a target_state. */
GLOBAL u32 mappings_of(struct work *work, struct mapping_slot *slot, u32 limit) {
    if (!work || !slot) return BUSY;
    u64 address = work->resume;
    bpf_repeat(1 << 16) {
        u64 leaf = leaf_of_memory(work->memory, address, &work->last);
        if (!leaf) return COMPLETE; /* or one that changes: the caller sees it */
        bpf_probe_read_kernel(work->leaf, sizeof(work->leaf), (void *)leaf);
        u32 found = find_areas(work, address);
        work->described += found;
        if (add_found(work, slot, found, limit) == PARTIAL) return PARTIAL;
        if (work->last == ~0ull) return COMPLETE;
        address = work->last + 1;
    }
    return BUSY;
}

/* Notes what must stand still while the task is answered; NO_MEMORY where it has none, BUSY where it does not. */
GLOBAL u32 begin_answer(struct work *work, u64 address) {
    if (!work) return ABSENT;
    struct task_struct *task = at(struct task_struct, address);
    work->program = program_of(task);
    work->credentials = address_in(task, real_cred);
    work->memory = address_in(task, mm);
    if (!work->memory || get(task->flags) & 0x00200000 /* PF_KTHREAD */) return NO_MEMORY;
    struct mm_struct *mm = at(struct mm_struct, work->memory);
    work->sequence = lock_sequence(mm);
    work->seen = 0;
    u32 state = being_written(mm) ? BUSY : COMPLETE;
    smp_rmb();
    return state;
}

/* Does it? */
GLOBAL u32 stood_still(struct work *work, u64 address) {
    if (!work) return 0;
    struct task_struct *task = at(struct task_struct, address);
    struct mm_struct *mm = at(struct mm_struct, work->memory);
    smp_rmb();
    if (!is_sequenced() && !same_again(work)) return 0;
    smp_rmb();
    /* A writer that has let go of the lock has raised the number; and see `fill`. */
    if (being_written(mm) || between_programs(task)) return 0;
    smp_rmb();
    return work->sequence == lock_sequence(mm) && work->memory == address_in(task, mm) &&
           work->credentials == address_in(task, real_cred) && work->program == program_of(task);
}

/* Answers for one target from work->resume on. Returns its state, which counts unless it is PARTIAL behind others. */
GLOBAL u32 answer_target(struct work *work, struct mapping_slot *slot, struct target *target, u64 pid_ns, u32 limit) {
    if (!work || !slot || !target) return ABSENT;
    u64 address = find(pid_ns, target->id);
    u32 state = ABSENT;
    work->names = work->naming.end;
    work->first = work->count;
    work->first_address = work->resume;
    if (address) {
        target->start_time = get(at(struct task_struct, address)->start_boottime);
        state = BUSY;
    }
    for (int try = 0; state == BUSY && try < TRIES && work->described < 2 * MAPPINGS; try++) {
        state = begin_answer(work, address);
        if (state == COMPLETE) state = mappings_of(work, slot, limit);
        if (state != BUSY && state != NO_MEMORY && !stood_still(work, address)) state = BUSY;
        if (state != BUSY) break;
        forget_names(&work->naming, work->names);
        work->count = work->first;
        work->resume = work->first_address;
        work->last_file = 0;
    }
    target->state = state;
    target->exec_id = work->program;
    target->first = work->first;
    target->count = work->count - work->first;
    return state;
}

SEC(PROGRAM)
int gather_mappings(struct run *context) {
    u32 key = context->slot;
    struct mapping_slot *slot = bpf_map_lookup_elem(&mapping_slots, &key);
    struct work *work = bpf_map_lookup_elem(&works, &key);
    if (!slot || !work) return 1;
    struct mapping_request *request = &slot->request;
    struct task_struct *daemon = current_task();
    work->count = work->described = 0;
    work->last_file = 0;
    work->resume = request->resume;
    request->done = work->zero;
    request->resume = 0;
    bpf_rcu_read_lock();
    begin_names(&work->naming, daemon);
    u64 reader = find(pid_ns_of(daemon), request->reader);
    u64 pid_ns = reader ? pid_ns_of(at(struct task_struct, reader)) : 0;
    bpf_repeat(TARGETS) {
        u32 done = request->done;
        barrier_var(done); /* or clang turns it into a running pointer, whose end the verifier cannot know */
        if (done >= request->targets || done >= TARGETS) break;
        u32 before = work->count;
        u32 state = answer_target(work, slot, &slot->targets[done], pid_ns, request->limit);
        /* Half a list only where it would not fit a whole slot. */
        if (state == PARTIAL && before) break;
        request->done = done + 1;
        if (state == PARTIAL) {
            request->resume = work->resume;
            break;
        }
        work->resume = 0;
    }
    bpf_rcu_read_unlock();
    request->mappings = work->count;
    request->names = work->naming.end;
    return pid_ns ? 0 : 2;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
