/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Names of files, as d_path makes them for the daemon.
 *
 * Names repeat: each distinct file is named once per run. A run is one RCU read section, so that no address of a
 * directory entry or mount comes to mean another one meanwhile. (Entries of no directory may: those of pipes, memfds
 * and the like are freed at once, so an address counts only together with the inode's.) */
#pragma once
#include "kernel/find.h"
#include "files/names.h"

#define DEPTH 48    /* components of a path, and mounts on its way */
#define LONGEST 4096
#define BUCKETS 1024
#define ANON_INODE_FS 0x09041934
#define TMPFS 0x01021994
#define HUGETLBFS 0x958458f6

struct named_file {
    u64 mount, entry, inode;
    u32 run, name, device, generation, number_low, number_high; /* name: 0 where only the kernel can tell it */
};
struct naming {
    struct named_file files[BUCKETS];
    u64 parts[DEPTH];
    u32 lengths[DEPTH];
    u64 root_entry, root_mount; /* of the daemon */
    u32 run, end; /* the end of the names so far */
    /* Of the name under way: its end so far, its parts, whether the file was deleted. */
    u32 here, depth, deleted, unused;
};

/* Begins a run, inside its read section. */
static void begin_names(struct naming *naming, struct task_struct *daemon) {
    naming->run++;
    naming->end = 4;
    naming->root_entry = address_in(get(daemon->fs), root.dentry);
    naming->root_mount = address_in(get(daemon->fs), root.mnt) - bpf_core_field_offset(struct mount, mnt);
}

/* Forgets the names from there on: they may be of objects that are gone. */
static void forget_names(struct naming *naming, u32 end) {
    naming->end = end;
    naming->run++;
}

/* Is it a file of no directory, which its file system names? */
static __always_inline bool is_pseudo(u64 mount, u64 address) {
    struct dentry *entry = at(struct dentry, address);
    u64 operations = address_in(entry, d_op);
    if (!operations || !address_in(at(struct dentry_operations, operations), d_dname)) return 0;
    return address_in(entry, d_parent) != address || address_in(at(struct vfsmount, mount), mnt_root) != address;
}

/* Appends bytes of the kernel to the name under way. Returns whether there is room. */
static __always_inline u32 append(struct naming *naming, struct names *names, u64 from, u32 length) {
    u32 place = naming->here;
    barrier_var(place);
    length &= LONGEST - 1;
    if (place > NAMES - LONGEST) return 0;
    if (bpf_probe_read_kernel(&names->bytes[place], length, (void *)from)) return 0;
    naming->here = place + length;
    return 1;
}

/* Appends some bytes of ours. */
#define append_text(naming, names, text)                                                                               \
    ({                                                                                                                 \
        u32 at_ = (naming)->here;                                                                                      \
        barrier_var(at_);                                                                                              \
        if (at_ <= NAMES - LONGEST) {                                                                                  \
            __builtin_memcpy(&(names)->bytes[at_], text, sizeof(text) - 1);                                            \
            (naming)->here = at_ + sizeof(text) - 1;                                                                   \
        }                                                                                                              \
    })

/* The name of a file of no directory. Returns 0 where only the kernel can tell it. */
GLOBAL u32 name_pseudo(struct naming *naming, struct names *names, u64 entry_address) {
    if (!naming || !names) return 0;
    struct dentry *entry = at(struct dentry, entry_address);
    u64 kind = get(get(entry->d_sb)->s_magic);
    if (kind == ANON_INODE_FS) {
        append_text(naming, names, "anon_inode:");
        naming->deleted = 0;
    } else if (kind == TMPFS || kind == HUGETLBFS) {
        append_text(naming, names, "/");
        naming->deleted = 1;
    } else
        return 0;
    return append(naming, names, address_in(entry, d_name.name), get(entry->d_name.len));
}

/* Notes the parts of a path from the file up to the root; naming->depth is how many. Returns whether it came there. */
GLOBAL u32 way_up(struct naming *naming, u64 mount, u64 here) {
    if (!naming) return 0;
    naming->depth = 0;
    bpf_repeat(2 * DEPTH) {
        if (here == naming->root_entry && mount == naming->root_mount) return 1;
        u32 depth = naming->depth;
        if (depth >= DEPTH) return 0;
        struct dentry *at_entry = at(struct dentry, here);
        struct mount *at_mount = at(struct mount, mount);
        u64 up = address_in(at_entry, d_parent);
        if (here == address_in(at_mount, mnt.mnt_root)) {
            u64 above = address_in(at_mount, mnt_parent);
            if (above == mount) return 1; /* the root of all, or of a detached tree */
            here = address_in(at_mount, mnt_mountpoint);
            mount = above;
            continue;
        }
        if (here == up) {
            /* Moved away from what is mounted: the kernel tells nothing of such a path. */
            naming->depth = 0;
            return 1;
        }
        naming->parts[depth] = address_in(at_entry, d_name.name);
        naming->lengths[depth] = get(at_entry->d_name.len);
        naming->depth = depth + 1;
        here = up;
    }
    return 0;
}

/* Appends those parts from the root down. Returns whether they had room. */
GLOBAL u32 way_down(struct naming *naming, struct names *names) {
    if (!naming || !names) return 0;
    u32 begin = naming->here;
    bpf_repeat(DEPTH) {
        u32 depth = naming->depth;
        if (!depth) break;
        depth--;
        barrier_var(depth); /* or clang compares what it was before */
        if (depth >= DEPTH || naming->here > begin + LONGEST) return 0;
        naming->depth = depth;
        append_text(naming, names, "/");
        if (!append(naming, names, naming->parts[depth], naming->lengths[depth])) return 0;
    }
    if (naming->here == begin) append_text(naming, names, "/");
    return 1;
}

/* Writes the name of a file as d_path does for the daemon. Returns its place among the names, 0 for unresolved. */
GLOBAL u32 name_file(struct naming *naming, struct names *names, u64 mount, u64 address) {
    if (!naming || !names) return 0;
    if (naming->end > NAMES - 2 * LONGEST) return 0;
    struct dentry *entry = at(struct dentry, address);
    naming->deleted = !address_in(entry, d_hash.pprev) && address_in(entry, d_parent) != address;
    naming->here = naming->end + sizeof(u32);
    if (is_pseudo(mount, address)) {
        if (!name_pseudo(naming, names, address)) return 0;
    } else {
        if (!way_up(naming, mount - bpf_core_field_offset(struct mount, mnt), address)) return 0;
        if (!way_down(naming, names)) return 0;
    }
    if (naming->here > NAMES - LONGEST) return 0;
    if (naming->deleted) append_text(naming, names, " (deleted)");
    u32 begin = naming->end, end = naming->here;
    if (begin > NAMES - LONGEST) return 0;
    *(u32 *)&names->bytes[begin & ~3u] = end - begin - sizeof(u32);
    naming->end = (end + 3) & ~3u;
    return begin;
}

/* Sequence numbers that the kernel raises before and after it renames a file, or moves a mount. */
extern const void rename_lock __ksym __weak, mount_lock __ksym __weak;

static u64 moves(void) {
    u64 renames = (u64)&rename_lock, mounts = (u64)&mount_lock;
    return (renames ? int_at(renames) : 0) | (u64)(mounts ? int_at(mounts) : 0) << 32;
}

/* The same, of a moment at which nothing on the way was renamed. */
GLOBAL u32 steady_name(struct naming *naming, struct names *names, u64 mount, u64 entry) {
    if (!naming || !names) return 0;
    u32 end = naming->end;
    for (int try = 0; try < 3; try++) {
        u64 before = moves();
        smp_rmb();
        u32 place = name_file(naming, names, mount, entry);
        smp_rmb();
        if (!(before & 0x100000001) && before == moves()) return place;
        naming->end = end;
    }
    return 0;
}

/* The bucket of a file: the one that it has in this run, or one that is to be named. */
GLOBAL u32 find_bucket(struct naming *naming, u64 mount, u64 entry, u64 inode) {
    if (!naming) return 0;
    u32 bucket = ((entry >> 6) * 0x9e3779b1u ^ (mount >> 5) * 0x85ebca6bu) >> 8;
    for (int probe = 0; probe < 8; probe++, bucket++) {
        struct named_file *named = &naming->files[bucket & (BUCKETS - 1)];
        bool ours = named->run == naming->run && named->name < naming->end;
        if (ours && named->entry == entry && named->mount == mount && named->inode == inode)
            return bucket & (BUCKETS - 1);
        if (!ours || probe == 7) break;
    }
    bucket &= BUCKETS - 1;
    struct named_file *named = &naming->files[bucket];
    struct inode *data = at(struct inode, inode);
    u64 number = get(data->i_ino);
    named->run = 0;
    named->entry = entry;
    named->mount = mount;
    named->inode = inode;
    named->device = get(get(data->i_sb)->s_dev);
    named->generation = get(data->i_generation);
    named->number_low = number;
    named->number_high = number >> 32;
    return bucket;
}

/* Has a file named on first sight in this run. */
static __always_inline void name_bucket(struct naming *naming, struct names *names, u32 bucket) {
    struct named_file *named = &naming->files[bucket & (BUCKETS - 1)];
    if (named->run == naming->run) return;
    named->name = steady_name(naming, names, named->mount, named->entry);
    named->run = naming->run;
}

/* A file with its name. */
static __always_inline struct named_file *named_file(struct naming *naming, struct names *names, u64 mount, u64 entry, u64 inode) {
    u32 bucket = find_bucket(naming, mount, entry, inode);
    name_bucket(naming, names, bucket);
    return &naming->files[bucket & (BUCKETS - 1)];
}
