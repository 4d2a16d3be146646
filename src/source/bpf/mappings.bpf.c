// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* The memory mappings of listed tasks, with their names.
 *
 * The tree of mappings is walked without its lock, as the kernel's own page fault path does, so no target is ever
 * held up and no held-up target holds us up. What was read counts only if the sequence number that every writer
 * raises stood still, and the task kept that memory, from beginning to end: else it is read again, and in the end
 * left to /proc.
 *
 * Names repeat: each distinct file is named once per run. A run is one RCU read section, so that no address of a
 * directory entry or mount comes to mean another one meanwhile. */
#include "memory.h"
#include "mappings_abi.h"

#define TRIES 6
#define DEPTH 48    /* components of a path, and mounts on its way */
#define LONGEST 4096
#define MAYBE_BACKING (3 << 24)
#define OVERLAYFS 0x794c7630
#define FUSE 0x65735546
#define BUCKETS 1024
#define ANON_INODE_FS 0x09041934
#define TMPFS 0x01021994
#define HUGETLBFS 0x958458f6

const volatile u32 page_shift = 12;

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct mapping_slot);
} mapping_slots SEC(".maps");

struct named_file {
    u64 mount, entry, inode;
    u32 run, name, device, generation, number_low, number_high, kind, unused;
};
struct work {
    u64 leaf[32];
    u64 areas[16];
    struct named_file files[BUCKETS];
    u64 parts[DEPTH];
    u32 lengths[DEPTH];
    u64 last_file; /* the file of the mapping before, and its bucket */
    u32 last_bucket;
    u32 run, names, count, zero;
    u32 described; /* mappings in this run, those of futile tries too */
    u64 root_entry, root_mount;
    u64 resume, sink;
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

/* Appends a name made of bytes at a kernel address. Returns its place, 0 if there is no room. */
static u32 append(struct mapping_slot *slot, u32 *end, u64 from, u32 length) {
    u32 place = *end;
    length &= LONGEST - 1;
    if (place > NAMES - LONGEST) return 0;
    if (bpf_probe_read_kernel(&slot->names[place], length, (void *)from)) return 0;
    *end = place + length;
    return 1;
}

/* Writes the name of a file as d_path does for the daemon. Returns its place among the names, 0 for unresolved. */
GLOBAL u32 name_file(struct work *work, struct mapping_slot *slot, u64 mount_address, u64 entry_address) {
    if (!work || !slot) return 0;
    u32 begin = work->names, end, depth = work->zero;
    struct dentry *entry = at(struct dentry, entry_address);
    u64 mount = mount_address - bpf_core_field_offset(struct mount, mnt), here = entry_address;
    u64 pseudo = address_in(entry, d_op) ? (u64)(address_in(entry->d_op, d_dname) != 0) : 0;
    u64 parent = address_in(entry, d_parent), mounted = address_in(at(struct mount, mount), mnt.mnt_root);
    bool deleted = !address_in(entry, d_hash.pprev) && parent != entry_address;

    if (begin > NAMES - 2 * LONGEST) return 0;
    end = begin + sizeof(u32);
    if (pseudo && (parent != entry_address || mounted != entry_address)) {
        /* Files of no directory: those that memory is mapped from. */
        u64 kind = entry->d_sb->s_magic;
        if (kind == ANON_INODE_FS) {
            const char prefix[] = "anon_inode:";
            __builtin_memcpy(&slot->names[end & (NAMES - 1)], prefix, sizeof(prefix) - 1);
            end += sizeof(prefix) - 1;
        } else if (kind == TMPFS || kind == HUGETLBFS) {
            slot->names[end++ & (NAMES - 1)] = '/';
            deleted = 1;
        } else
            return 0;
        if (!append(slot, &end, address_in(entry, d_name.name), entry->d_name.len)) return 0;
        if (kind == ANON_INODE_FS) deleted = 0;
    } else {
        bool arrived = 0;
        bpf_repeat(2 * DEPTH) {
            if (here == work->root_entry && mount == work->root_mount) arrived = 1;
            if (arrived || depth >= DEPTH) break;
            struct dentry *at_entry = at(struct dentry, here);
            struct mount *at_mount = at(struct mount, mount);
            u64 up = address_in(at_entry, d_parent);
            if (here == address_in(at_mount, mnt.mnt_root)) {
                u64 above = address_in(at_mount, mnt_parent);
                if (above == mount) arrived = 1; /* the root of all, or of a detached tree */
                if (arrived) break;
                here = address_in(at_mount, mnt_mountpoint);
                mount = above;
                continue;
            }
            if (here == up) arrived = 1;
            if (arrived) break;
            if (depth < DEPTH) {
                work->parts[depth] = address_in(at_entry, d_name.name);
                work->lengths[depth] = at_entry->d_name.len;
            }
            depth++;
            here = up;
        }
        if (!arrived) return 0;
        bpf_repeat(DEPTH) {
            if (!depth) break;
            depth--;
            if (depth >= DEPTH || end > begin + LONGEST) return 0;
            slot->names[end++ & (NAMES - 1)] = '/';
            if (!append(slot, &end, work->parts[depth], work->lengths[depth])) return 0;
        }
        if (end == begin + sizeof(u32)) slot->names[end++ & (NAMES - 1)] = '/';
    }
    if (deleted) {
        const char suffix[] = " (deleted)";
        if (end > NAMES - LONGEST) return 0;
        __builtin_memcpy(&slot->names[end], suffix, sizeof(suffix) - 1);
        end += sizeof(suffix) - 1;
    }
    if (begin > NAMES - LONGEST) return 0;
    *(u32 *)&slot->names[begin] = end - begin - sizeof(u32);
    work->names = (end + 3) & ~3u;
    return begin;
}

/* Sequence numbers that the kernel raises before and after it renames a file, or moves a mount. */
extern const void rename_lock __ksym __weak, mount_lock __ksym __weak;

static u64 moves(void) {
    u64 renames = (u64)&rename_lock, mounts = (u64)&mount_lock;
    return (renames ? int_at(renames) : 0) | (u64)(mounts ? int_at(mounts) : 0) << 32;
}

/* The same, of a moment at which nothing on the way was renamed. */
GLOBAL u32 steady_name(struct work *work, struct mapping_slot *slot, u64 mount, u64 entry) {
    if (!work || !slot) return 0;
    u32 names = work->names;
    for (int try = 0; try < 3; try++) {
        u64 before = moves();
        u32 place = name_file(work, slot, mount, entry);
        if (!(before & 0x100000001) && before == moves()) return place;
        work->names = names;
    }
    return 0;
}

/* A name given as text: [heap] and its like, or `[anon:` and bytes of the kernel and `]`. */
GLOBAL u32 name_text(struct work *work, struct mapping_slot *slot, u64 text, u64 prefix, u32 prefix_length) {
    if (!work || !slot) return 0;
    u32 begin = work->names, end = begin + sizeof(u32);
    if (begin > NAMES - LONGEST) return 0;
    if (prefix_length) {
        for (u32 i = 0; i < 16 && i < prefix_length; i++) slot->names[end++ & (NAMES - 1)] = prefix >> (i * 8);
    }
    if (text) {
        if (end > NAMES - LONGEST) return 0;
        s64 length = bpf_probe_read_kernel_str(&slot->names[end], 128, (void *)text);
        if (length <= 1 || (!prefix_length && slot->names[end & (NAMES - 1)] != '[')) return 0;
        end += length - 1;
        if (prefix_length) slot->names[end++ & (NAMES - 1)] = ']';
    }
    *(u32 *)&slot->names[begin & (NAMES - 1) & ~3u] = end - begin - sizeof(u32);
    work->names = (end + 3) & ~3u;
    return begin;
}

/* The bucket of a file, filled on first sight in this run. */
GLOBAL u32 bucket_of(struct work *work, struct mapping_slot *slot, u64 address) {
    if (!work || !slot) return 0;
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
    u32 bucket = ((entry >> 6) * 0x9e3779b1u ^ (mount >> 5) * 0x85ebca6bu) >> 8;
    for (int probe = 0; probe < 8; probe++) {
        struct named_file *named = &work->files[(bucket + probe) & (BUCKETS - 1)];
        bool ours = named->run == work->run && named->name < work->names;
        if (ours && named->entry == entry && named->mount == mount && named->inode == inode)
            return (bucket + probe) & (BUCKETS - 1);
        if (ours && probe < 7) continue;
        struct inode *data = at(struct inode, inode);
        u64 number = data->i_ino;
        named->entry = entry;
        named->mount = mount;
        named->inode = inode;
        named->device = data->i_sb->s_dev;
        named->generation = data->i_generation;
        named->number_low = number;
        named->number_high = number >> 32;
        named->name = steady_name(work, slot, mount, entry);
        named->kind = named->name ? FROM_FILE : UNRESOLVED;
        named->run = work->run;
        return (bucket + probe) & (BUCKETS - 1);
    }
    return 0;
}

/* One mapping. */
GLOBAL u32 describe(struct work *work, struct mapping_slot *slot, struct mapping *mapping, u64 address, u64 memory) {
    if (!work || !slot || !mapping) return 0;
    struct vm_area_struct *area = at(struct vm_area_struct, address);
    u64 file = address_in(area, vm_file), start = area->vm_start, end = area->vm_end;
    mapping->start = start;
    mapping->end = end;
    mapping->flags = area->vm_flags;
    u64 anon_name = bpf_core_field_exists(area->anon_name) ? address_in(area, anon_name) : 0;
    if (anon_name) anon_name += bpf_core_field_offset(struct anon_vma_name, name);
    if (file) {
        if (file != work->last_file) {
            work->last_bucket = bucket_of(work, slot, file);
            work->last_file = file;
        }
        struct named_file *named = &work->files[work->last_bucket & (BUCKETS - 1)];
        mapping->offset = (u64)area->vm_pgoff << page_shift;
        mapping->inode = named->number_low | (u64)named->number_high << 32;
        mapping->device = named->device;
        mapping->generation = named->generation;
        mapping->kind = named->kind;
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
        mapping->name = name_text(work, slot, address_in(at(struct vm_special_mapping, special), name), 0, 0);
        return 1;
    }
    struct mm_struct *mm = at(struct mm_struct, memory);
    if (start < mm->brk && end > mm->start_brk)
        mapping->name = name_text(work, slot, 0, 0x5d706165685bull /* [heap] */, 6);
    else if (start <= mm->start_stack && end >= mm->start_stack)
        mapping->name = name_text(work, slot, 0, 0x5d6b636174735bull /* [stack] */, 7);
    else if (anon_name)
        mapping->name = name_text(work, slot, anon_name, 0x3a6e6f6e615bull /* [anon: */, 6);
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
            if (count >= limit || count >= MAPPINGS || work->names > NAMES - 2 * LONGEST) {
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
    u32 names = work->names, count = work->count;
    u64 resume = work->resume;
    for (int try = 0; try < TRIES && work->described < 2 * MAPPINGS; try++) {
        u64 credentials = address_in(task, real_cred), memory = address_in(task, mm);
        if (!memory || task->flags & 0x00200000 /* PF_KTHREAD */) return NO_MEMORY;
        struct mm_struct *mm = at(struct mm_struct, memory);
        u32 sequence = int_at(place(mm, mm_lock_seq));
        if (!being_written(mm)) {
            u32 state = mappings_of(work, slot, memory, limit);
            if (!being_written(mm) && sequence == int_at(place(mm, mm_lock_seq)) && memory == address_in(task, mm) &&
                credentials == address_in(task, real_cred) && !between_programs(task))
                return state;
        }
        /* Forget what was gathered, and the names with it: they may be of objects that are gone. */
        work->names = names;
        work->count = count;
        work->resume = resume;
        work->last_file = 0;
        work->run++;
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
    work->run++;
    work->names = 4; /* 0 means none */
    work->count = work->described = 0;
    work->last_file = 0;

    u32 targets = request->targets, limit = request->limit, done = work->zero, partial = 0;
    bpf_rcu_read_lock();
    work->root_entry = address_in(daemon->fs, root.dentry);
    work->root_mount = address_in(daemon->fs, root.mnt) - bpf_core_field_offset(struct mount, mnt);
    u64 reader = find(pid_ns_of(daemon), request->reader), resume = request->resume;
    u64 pid_ns = reader ? pid_ns_of(at(struct task_struct, reader)) : 0;
    bpf_repeat(TARGETS) {
        barrier_var(done); /* or clang turns it into a running pointer, whose end the verifier cannot know */
        if (done >= targets || done >= TARGETS) break;
        struct target *target = &slot->targets[done];
        u64 task = find(pid_ns, target->id);
        u32 before = work->count, names = work->names, state = ABSENT;
        work->resume = resume;
        if (task) {
            target->start_time = at(struct task_struct, task)->start_boottime;
            state = answer(work, slot, task, limit);
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
    request->names = work->names;
    return pid_ns ? 0 : 2;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
