// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* The memory mappings of listed tasks, with their names.
 *
 * The tree of mappings is walked without its lock, as the kernel's own page fault path does, so no target is ever
 * held up and no held-up target holds us up. What was read counts only if the sequence number that every writer
 * raises stood still, and the task kept that memory, from beginning to end: else it is read again, and in the end
 * left to /proc. A run is one RCU read section. */
#include "memory/memory.h"
#include "files/path.h"
#include "mappings/abi.h"

#define TRIES 6
#define MAYBE_BACKING (3 << 24)
#define OVERLAYFS 0x794c7630
#define FUSE 0x65735546

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
    u64 program; /* of the task that was answered for last */
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct work);
} works SEC(".maps");

/* The leaf node of the mapping tree that covers `address`, and the last address that it covers. */
GLOBAL u64 leaf_of_memory(u64 memory, u64 address, u64 *last) {
    enum { LEAF = 1, RANGE = 2, ALLOC_RANGE = 3 };
    if (!last) return 0;
    u64 entry = address_in(at(struct mm_struct, memory), mm_mt.ma_root), end = ~0ull;
    for (int depth = 0; depth < 8; depth++) {
        if (depth ? !entry : !IS_NODE(entry)) return 0;
        u64 node = entry & ~0xffull, kind = entry >> 3 & 15;
        if (kind == LEAF) {
            *last = end;
            return node;
        }
        u64 pivots = node, slots = node;
        u32 size = kind == ALLOC_RANGE ? 10 : 16, chosen = size - 1, i;
        if (kind == ALLOC_RANGE) {
            pivots += bpf_core_field_offset(struct maple_arange_64, pivot);
            slots += bpf_core_field_offset(struct maple_arange_64, slot);
        } else if (kind == RANGE) {
            pivots += bpf_core_field_offset(struct maple_range_64, pivot);
            slots += bpf_core_field_offset(struct maple_range_64, slot);
        } else
            return 0;
        bpf_for(i, 0, size - 1) {
            u64 pivot = word_at(pivots + i * 8);
            if (!pivot && i) pivot = end;
            if (address > pivot) continue;
            if (pivot < end) end = pivot;
            chosen = i;
            break;
        }
        entry = word_at(slots + chosen * 8);
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

/* The bucket of a mapped file. */
GLOBAL u32 bucket_of_mapped(struct naming *naming, struct names *names, u64 address) {
    if (!naming || !names) return 0;
    struct file *file = at(struct file, address);
    u64 path = place(file, f_path), inode = address_in(file, f_inode);
    if (file->f_mode & MAYBE_BACKING && bpf_core_type_exists(struct backing_file)) {
        /* The file that overlayfs (or FUSE) maps in place of the one the user opened, which stands behind it. Which of
         * two bits says so depends on the kernel; a plain file has no path into such a file system there. */
        u64 user_path = address + bpf_core_field_offset(struct backing_file, user_path);
        struct dentry *opened = at(struct dentry, address_in(at(struct path, user_path), dentry));
        u64 kind = opened->d_sb->s_magic;
        if (kind == OVERLAYFS || kind == FUSE) {
            path = user_path;
            inode = address_in(opened, d_inode);
        }
    }
    u64 mount = address_in(at(struct path, path), mnt), entry = address_in(at(struct path, path), dentry);
    return bucket_of(naming, names, mount, entry, inode);
}

/* One mapping. */
GLOBAL u32 describe(struct work *work, struct mapping_slot *slot, struct mapping *mapping, u64 address, u64 memory) {
    if (!work || !slot || !mapping) return 0;
    struct naming *naming = &work->naming;
    struct names *names = &slot->names;
    struct vm_area_struct *area = at(struct vm_area_struct, address);
    u64 file = address_in(area, vm_file), start = area->vm_start, end = area->vm_end;
    mapping->start = start;
    mapping->end = end;
    mapping->flags = area->vm_flags;
    u64 anon_name = bpf_core_field_exists(area->anon_name) ? address_in(area, anon_name) : 0;
    if (anon_name) anon_name += bpf_core_field_offset(struct anon_vma_name, name);
    if (file) {
        if (file != work->last_file) {
            work->last_bucket = bucket_of_mapped(naming, names, file);
            work->last_file = file;
        }
        struct named_file *named = &naming->files[work->last_bucket & (BUCKETS - 1)];
        mapping->offset = (u64)area->vm_pgoff << page_shift;
        mapping->inode = named->number_low | (u64)named->number_high << 32;
        mapping->device = named->device;
        mapping->generation = named->generation;
        mapping->kind = named->name ? FROM_FILE : UNRESOLVED;
        mapping->name = named->name;
        if (anon_name) mapping->kind = UNRESOLVED;
        return 1;
    }
    mapping->offset = 0;
    mapping->inode = 0;
    mapping->device = mapping->generation = 0;
    mapping->kind = ANONYMOUS;
    mapping->name = 0;
    u64 operations = address_in(area, vm_ops);
    if (operations && address_in(at(struct vm_operations_struct, operations), name)) {
        /* Every such name comes from a vm_special_mapping: [vdso], [vvar], [uprobes] ... */
        u64 special = address_in(area, vm_private_data);
        mapping->name = name_text(naming, names, address_in(at(struct vm_special_mapping, special), name), 0, 0);
        return 1;
    }
    struct mm_struct *mm = at(struct mm_struct, memory);
    if (start < mm->brk && end > mm->start_brk)
        mapping->name = name_text(naming, names, 0, 0x5d706165685bull /* [heap] */, 6);
    else if (start <= mm->start_stack && end >= mm->start_stack)
        mapping->name = name_text(naming, names, 0, 0x5d6b636174735bull /* [stack] */, 7);
    else if (anon_name)
        mapping->name = name_text(naming, names, anon_name, 0x3a6e6f6e615bull /* [anon: */, 6);
    return 1;
}

/* Appends the mappings of one memory from work->resume on. Returns a target_state. */
GLOBAL u32 mappings_of(struct work *work, struct mapping_slot *slot, u64 memory, u32 limit) {
    if (!work || !slot) return BUSY;
    u64 address = work->resume;
    bpf_repeat(1 << 16) {
        u64 last = 0, leaf = leaf_of_memory(memory, address, &last);
        if (!leaf) return COMPLETE; /* or one that changes: the caller sees it */
        bpf_probe_read_kernel(work->leaf, sizeof(work->leaf), (void *)leaf);
        u32 pivots = bpf_core_field_offset(struct maple_range_64, pivot) / 8,
            slots = bpf_core_field_offset(struct maple_range_64, slot) / 8, found = work->zero, i;
        u64 sink = 0;
        bpf_for(i, 0, 16) {
            u64 pivot = i < 15 ? work->leaf[(pivots + i) & 31] : last, area = work->leaf[(slots + i) & 31];
            if (!pivot && i) pivot = last;
            if (area && !(area & 3) && pivot >= address) work->areas[found++ & 15] = area;
            if (pivot >= last) break;
        }
        /* Have all of them brought into the cache together: nothing but loads, that as many as may be wait at once. */
        const u32 first = bpf_core_field_offset(struct vm_area_struct, vm_start),
                  second = bpf_core_field_offset(struct vm_area_struct, vm_file);
#pragma clang loop unroll(full)
        for (int k = 0; k < 16; k++) sink += word_at(work->areas[k] + first) + word_at(work->areas[k] + second);
        work->sink = sink;
        work->described += found;
        bpf_for(i, 0, found) {
            u32 count = work->count;
            if (count >= limit || count >= MAPPINGS || work->naming.end > NAMES - 2 * LONGEST) {
                work->resume = at(struct vm_area_struct, work->areas[i & 15])->vm_start;
                return PARTIAL;
            }
            describe(work, slot, &slot->mappings[count], work->areas[i & 15], memory);
            work->count = count + 1;
        }
        if (last == ~0ull) return COMPLETE;
        address = last + 1;
    }
    return BUSY;
}

GLOBAL u32 answer(struct work *work, struct mapping_slot *slot, u64 address, u32 limit) {
    if (!work || !slot) return ABSENT;
    struct task_struct *task = at(struct task_struct, address);
    u32 names = work->naming.end, count = work->count;
    u64 resume = work->resume;
    for (int try = 0; try < TRIES && work->described < 2 * MAPPINGS; try++) {
        u64 program = program_of(task), credentials = address_in(task, real_cred), memory = address_in(task, mm);
        if (!memory || task->flags & 0x00200000 /* PF_KTHREAD */) return NO_MEMORY;
        struct mm_struct *mm = at(struct mm_struct, memory);
        u32 sequence = int_at(place(mm, mm_lock_seq));
        if (!being_written(mm)) {
            smp_rmb();
            u32 state = mappings_of(work, slot, memory, limit);
            smp_rmb();
            /* A writer that has let go of the lock has raised the number; and see `fill`. */
            bool whole = !being_written(mm) && !between_programs(task);
            smp_rmb();
            if (whole && sequence == int_at(place(mm, mm_lock_seq)) && memory == address_in(task, mm) &&
                credentials == address_in(task, real_cred) && program == program_of(task)) {
                work->program = program;
                return state;
            }
        }
        forget_names(&work->naming, names);
        work->count = count;
        work->resume = resume;
        work->last_file = 0;
    }
    return BUSY;
}

SEC("syscall")
int gather_mappings(struct mapping_request *request) {
    u32 key = request->slot;
    struct mapping_slot *slot = bpf_map_lookup_elem(&mapping_slots, &key);
    struct work *work = bpf_map_lookup_elem(&works, &key);
    if (!slot || !work) return 1;
    struct task_struct *daemon = (void *)bpf_get_current_task_btf();
    work->count = work->described = 0;
    work->last_file = 0;

    u32 targets = request->targets, limit = request->limit, done = work->zero, partial = 0;
    bpf_rcu_read_lock();
    begin_names(&work->naming, daemon);
    u64 reader = find(pid_ns_of(daemon), request->reader), resume = request->resume;
    u64 pid_ns = reader ? pid_ns_of(at(struct task_struct, reader)) : 0;
    bpf_repeat(TARGETS) {
        barrier_var(done); /* or clang turns it into a running pointer, whose end the verifier cannot know */
        if (done >= targets || done >= TARGETS) break;
        struct target *target = &slot->targets[done];
        u64 task = find(pid_ns, target->id);
        u32 before = work->count, state = ABSENT;
        work->resume = resume;
        if (task) {
            target->start_time = at(struct task_struct, task)->start_boottime;
            state = answer(work, slot, task, limit);
            target->exec_id = work->program;
        }
        /* Half a list only where it would not fit a whole slot. */
        if (state == PARTIAL && before) break;
        target->state = state;
        target->first = before;
        target->count = work->count - before;
        done++;
        resume = 0;
        partial = state == PARTIAL;
        if (partial) break;
    }
    bpf_rcu_read_unlock();
    request->resume = partial ? work->resume : 0;
    request->done = done;
    request->mappings = work->count;
    request->names = work->naming.end;
    return pid_ns ? 0 : 2;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
