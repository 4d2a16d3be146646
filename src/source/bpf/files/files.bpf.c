// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* The open files of listed tasks, their programs and directories, with their names.
 *
 * No lock is taken and no reference held. A run is one RCU read section, which keeps tasks, tables of descriptors,
 * inodes, mounts and entries of directories from being freed; but not the structures that lead there: those of files,
 * the tasks' sets of files and of directories, and the entries of pipes and the like may be freed and serve others at
 * any time. So what was read counts only if all that led to it still stands afterwards: the task has that set of
 * files, the set that table, the descriptor that file, and the file that inode and that entry. Else it is read again,
 * and in the end left to /proc. (A file that was closed, lent to another process, and came back to the same descriptor
 * in the blink between would have to do so twice over: at the first look and at the second.) */
#include "files/path.h"
#include "files/abi.h"

#define TRIES 6
#define LONGEST_LINK 4095 /* what readlink gives of a longer name is an error */
#define SOCKFS 0x534f434b
#define PIPEFS 0x50495045
#define NSFS 0x6e736673
#define PIDFS 0x50494446
#define O_CLOEXEC 02000000

/* The driver knows what this kernel calls a pidfd. */
const volatile bool pidfd_names = 0;

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct files_slot);
} files_slots SEC(".maps");

/* A descriptor as it was found. */
struct found {
    u64 file, mount, entry, inode, position;
    u32 fd, flags;
};
#define WORD 64 /* descriptors that are looked at together */
struct work {
    struct naming naming;
    struct found found[WORD];
    u32 count, zero;
    u32 looked; /* descriptors in this run, those of futile tries too */
    u32 resume;
    /* What must stand still while a task is answered, and where its answer began. */
    u64 program, credentials, memory, files, directories, executable, table;
    u32 first, first_descriptor, names;
    /* The same of one word of descriptors. */
    u32 word_count, word_names;
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct work);
} works SEC(".maps");

/* The place of a file's name, 0 where only the kernel can tell it. */
static __always_inline u32 name_of(struct work *work, struct files_slot *slot, u64 mount, u64 entry, u64 inode) {
    if (!work || !slot) return 0;
    u32 place;
    if (is_pseudo(mount, entry))
        place = steady_name(&work->naming, &slot->names, mount, entry);
    else
        place = named_file(&work->naming, &slot->names, mount, entry, inode)->name;
    if (place > NAMES - LONGEST || *(u32 *)&slot->names.bytes[place & ~3u] > LONGEST_LINK) return 0;
    return place;
}

/* Fills work->found with the descriptors of one word of the table, from `first` on. Returns how many. */
GLOBAL u32 find_open(struct work *work, u64 table, u32 first) {
    if (!work) return 0;
    struct fdtable *fdt = at(struct fdtable, table);
    u32 word = first / WORD, found = work->zero, i;
    u64 open = word_at(address_in(fdt, open_fds) + word * 8) >> first % WORD << first % WORD;
    if (!open) return 0;
    u64 closing = word_at(address_in(fdt, close_on_exec) + word * 8);
    u64 slots = address_in(fdt, fd) + word * WORD * 8;
    bpf_for(i, 0, WORD) {
        if (!(open >> i)) break;
        u64 file = word_at(slots + i * 8);
        if (!file || !(open >> i & 1)) continue; /* not open, or not yet */
        struct found *here = &work->found[found++ & (WORD - 1)];
        here->file = file;
        here->fd = word * WORD + i;
        here->flags = closing >> i & 1 ? O_CLOEXEC : 0;
    }
    bpf_for(i, 0, found) {
        struct found *here = &work->found[i & (WORD - 1)];
        struct file *file = at(struct file, here->file);
        here->inode = address_in(file, f_inode);
        here->entry = address_in(file, f_path.dentry);
        here->mount = address_in(file, f_path.mnt);
        here->position = get(file->f_pos);
        here->flags |= get(file->f_flags) & ~O_CLOEXEC;
    }
    return found;
}

/* Are these descriptors still open, and the same files? */
GLOBAL u32 still_open(struct work *work, u64 table, u32 found) {
    if (!work) return 0;
    u64 slots = address_in(at(struct fdtable, table), fd);
    u64 differ = 0; /* a number, as older verifiers would follow each answer for itself */
    u32 i;
    bpf_for(i, 0, found) {
        struct found *here = &work->found[i & (WORD - 1)];
        struct file *file = at(struct file, here->file);
        u64 place = slots + (u64)here->fd * 8;
        differ |= word_at(place) ^ here->file;
        smp_rmb();
        differ |= (address_in(file, f_inode) ^ here->inode) | (address_in(file, f_path.dentry) ^ here->entry) |
                  (address_in(file, f_path.mnt) ^ here->mount);
        smp_rmb();
        differ |= word_at(place) ^ here->file;
    }
    return !differ;
}

/* One descriptor, but for the name of its file. Returns true if it has one. */
GLOBAL u32 describe(struct work *work, struct open_file *file, u32 nth) {
    if (!work || !file) return 0;
    struct found *here = &work->found[nth & (WORD - 1)];
    struct inode *inode = at(struct inode, here->inode);
    u32 kind = NAMED, type = get(inode->i_mode) >> 12;
    if (is_pseudo(here->mount, here->entry)) {
        u32 system = get(get(at(struct dentry, here->entry)->d_sb)->s_magic);
        if (system == SOCKFS) kind = SOCKET;
        if (system == PIPEFS) kind = PIPE;
        if (system == NSFS) kind = NAMESPACE;
        if (system == PIDFS && pidfd_names) kind = PIDFD;
        /* So says stat, whatever the mode is. */
        if (kind == PIDFD || system == ANON_INODE_FS) type = 0;
    }
    file->position = here->position;
    file->inode = get(inode->i_ino);
    file->device = get(get(inode->i_sb)->s_dev);
    file->fd = here->fd;
    file->flags = here->flags;
    file->name = 0;
    file->kind = kind;
    file->type = type;
    return kind == NAMED || kind == NAMESPACE;
}

/* The place of the name of a namespace's kind; 0 without one. */
GLOBAL u32 namespace_name(struct work *work, struct files_slot *slot, u64 inode) {
    if (!work || !slot) return 0;
    u64 operations = address_in(at(struct ns_common, address_in(at(struct inode, inode), i_private)), ops);
    u64 name = address_in(at(struct proc_ns_operations, operations), name);
    u32 place = work->naming.end;
    if (place > NAMES - LONGEST) return 0;
    s64 length = bpf_probe_read_kernel_str(&slot->names.bytes[place + 4], 32, (void *)name);
    if (length <= 1 || length > 32) return 0;
    *(u32 *)&slot->names.bytes[place & ~3u] = length - 1;
    work->naming.end = (place + 4 + length + 3) & ~3u;
    return place;
}

/* Appends a descriptor that was found. Returns its state. */
GLOBAL u32 add_found(struct work *work, struct files_slot *slot, u32 nth) {
    if (!work || !slot) return BUSY;
    u32 count = work->count;
    struct found *here = &work->found[nth & (WORD - 1)];
    barrier_var(count);
    if (count >= FILES || work->naming.end > NAMES - 2 * LONGEST) {
        work->resume = here->fd;
        return PARTIAL;
    }
    struct open_file *file = &slot->files[count];
    if (describe(work, file, nth)) {
        u32 name = file->kind == NAMESPACE ? namespace_name(work, slot, here->inode)
                                           : name_of(work, slot, here->mount, here->entry, here->inode);
        if (!name) return BUSY;
        file->name = name;
    }
    work->count = count + 1;
    return COMPLETE;
}

/* The table of descriptors that a set of files has. */
static u64 table_of(u64 files) {
    return address_in(at(struct files_struct, files), fdt);
}

/* Appends the descriptors of one word of work->table, from `first` on. */
GLOBAL u32 word_of(struct work *work, struct files_slot *slot, u32 first) {
    if (!work || !slot) return BUSY;
    work->word_count = work->count;
    work->word_names = work->naming.end;
    for (int try = 0; try < (PROBING ? 1 : TRIES); try++) {
        u32 found = find_open(work, work->table, first), state = COMPLETE, i;
        work->looked += found;
        bpf_for(i, 0, found) {
            state = add_found(work, slot, i);
            if (state != COMPLETE) break;
        }
        smp_rmb();
        if (still_open(work, work->table, found) && table_of(work->files) == work->table) return state;
        forget_names(&work->naming, work->word_names);
        work->count = work->word_count;
    }
    return BUSY;
}

/* Past empty words of the table: sixteen of them cost about what a descriptor does. */
GLOBAL u32 skip_empty(u64 table, u32 first, u32 end) {
    u64 open = address_in(at(struct fdtable, table), open_fds);
    u32 i;
    bpf_for(i, 0, 16) {
        if (first >= end || word_at(open + first / WORD * 8)) break;
        first = (first / WORD + 1) * WORD;
    }
    return first;
}

/* Appends the descriptors of work->files from work->resume on. */
GLOBAL u32 descriptors(struct work *work, struct files_slot *slot) {
    if (!work || !slot) return BUSY;
    work->table = table_of(work->files);
    u32 first = work->resume;
    bpf_repeat(PROBING ? 16 : 2 * FILES + 1) {
        u32 end = get(at(struct fdtable, work->table)->max_fds);
        if (first >= end) return COMPLETE;
        if (work->looked >= 2 * FILES) {
            work->resume = first;
            return PARTIAL;
        }
        work->looked++;
        first = skip_empty(work->table, first, end);
        if (first >= end) return COMPLETE;
        u32 state = word_of(work, slot, first);
        if (state != COMPLETE) return state;
        first = (first / WORD + 1) * WORD;
    }
    work->resume = first;
    return PARTIAL;
}

/* The place of the name of a path that stands at an address; 0 without one, 1 where only the kernel can tell it. */
GLOBAL u32 link_to(struct work *work, struct files_slot *slot, u64 path) {
    if (!work || !slot) return 0;
    u64 mount = address_in(at(struct path, path), mnt), entry = address_in(at(struct path, path), dentry);
    if (!entry) return 0;
    u32 place = name_of(work, slot, mount, entry, address_in(at(struct dentry, entry), d_inode));
    smp_rmb();
    bool same = mount == address_in(at(struct path, path), mnt) && entry == address_in(at(struct path, path), dentry);
    return place && same ? place : 1;
}

/* Program, working and root directory of a task. */
GLOBAL u32 links(struct work *work, struct files_slot *slot, struct target *target, u64 address) {
    if (!work || !slot || !target) return BUSY;
    struct task_struct *task = at(struct task_struct, address);
    u64 memory = get(task->flags) & 0x00200000 /* PF_KTHREAD */ ? 0 : work->memory;
    work->executable = memory ? address_in(at(struct mm_struct, memory), exe_file) : 0;
    work->directories = address_in(task, fs);
    target->exe = target->cwd = target->root = 0;
    if (work->executable) target->exe = link_to(work, slot, work->executable + bpf_core_field_offset(struct file, f_path));
    if (work->directories) {
        target->cwd = link_to(work, slot, work->directories + bpf_core_field_offset(struct fs_struct, pwd));
        target->root = link_to(work, slot, work->directories + bpf_core_field_offset(struct fs_struct, root));
    }
    if (target->exe == 1 || target->cwd == 1 || target->root == 1) return BUSY;
    smp_rmb();
    if (work->executable && work->executable != address_in(at(struct mm_struct, memory), exe_file)) return BUSY;
    return work->directories == address_in(task, fs) ? COMPLETE : BUSY;
}

/* Notes what must stand still while a task is answered. */
GLOBAL u32 begin_answer(struct work *work, u64 address) {
    if (!work) return 0;
    struct task_struct *task = at(struct task_struct, address);
    work->program = program_of(task);
    work->credentials = address_in(task, real_cred);
    work->memory = address_in(task, mm);
    work->files = address_in(task, files);
    smp_rmb();
    return 0;
}

/* Does it? */
GLOBAL u32 stood_still(struct work *work, u64 address) {
    if (!work) return 0;
    struct task_struct *task = at(struct task_struct, address);
    smp_rmb();
    if (between_programs(task)) return 0; /* see `fill` */
    smp_rmb();
    return work->files == address_in(task, files) && work->memory == address_in(task, mm) &&
           work->credentials == address_in(task, real_cred) && work->program == program_of(task);
}

/* Answers for one target from work->resume on. Returns its state, which counts unless it is PARTIAL behind others. */
GLOBAL u32 answer_target(struct work *work, struct files_slot *slot, struct target *target, u64 pid_ns) {
    if (!work || !slot || !target) return BUSY;
    u64 address = find(pid_ns, target->id);
    u32 state = ABSENT;
    work->names = work->naming.end;
    work->first = work->count;
    work->first_descriptor = work->resume;
    target->exe = target->cwd = target->root = 0;
    if (address) {
        target->start_time = get(at(struct task_struct, address)->start_boottime);
        state = BUSY;
    }
    for (int try = 0; state == BUSY && try < TRIES && work->looked < 2 * FILES; try++) {
        begin_answer(work, address);
        state = COMPLETE;
        if (target->wants & LINKS && !work->first_descriptor) state = links(work, slot, target, address);
        if (target->wants & DESCRIPTORS && state == COMPLETE && work->files) state = descriptors(work, slot);
        if (state != BUSY && stood_still(work, address)) break;
        state = BUSY;
        target->exe = target->cwd = target->root = 0;
        forget_names(&work->naming, work->names);
        work->count = work->first;
        work->resume = work->first_descriptor;
    }
    target->state = state;
    target->exec_id = work->program;
    target->first = work->first;
    target->count = work->count - work->first;
    return state;
}

SEC(PROGRAM)
int gather_files(struct run *context) {
    u32 key = context->slot;
    struct files_slot *slot = bpf_map_lookup_elem(&files_slots, &key);
    struct work *work = bpf_map_lookup_elem(&works, &key);
    if (!slot || !work) return 1;
    struct files_request *request = &slot->request;
    struct task_struct *daemon = current_task();
    work->count = work->looked = 0;
    work->resume = request->resume;
    request->done = work->zero;
    request->resume = 0;
    bpf_rcu_read_lock();
    begin_names(&work->naming, daemon);
    u64 reader = find(pid_ns_of(daemon), request->reader);
    u64 pid_ns = reader ? pid_ns_of(at(struct task_struct, reader)) : 0;
    bpf_repeat(PROBING ? 64 : TARGETS) {
        u32 done = request->done;
        barrier_var(done); /* as in mappings.bpf.c */
        if (done >= request->targets || done >= TARGETS) break;
        /* What one task has besides descriptors fits. */
        if (done && (work->naming.end > NAMES - 6 * LONGEST || work->looked >= 2 * FILES)) break;
        u32 state = answer_target(work, slot, &slot->targets[done], pid_ns);
        /* Half a list only where it would not fit a whole slot. */
        if (state == PARTIAL && done) break;
        request->done = done + 1;
        if (state == PARTIAL) {
            request->resume = work->resume;
            break;
        }
        work->resume = 0;
    }
    bpf_rcu_read_unlock();
    request->files = work->count;
    request->names = work->naming.end;
    return pid_ns ? 0 : 2;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
