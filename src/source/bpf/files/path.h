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
    u32 run, end, zero, unused; /* the end of the names so far */
};

/* Begins a run, inside its read section. */
static void begin_names(struct naming *naming, struct task_struct *daemon) {
    naming->run++;
    naming->end = 4;
    naming->root_entry = address_in(daemon->fs, root.dentry);
    naming->root_mount = address_in(daemon->fs, root.mnt) - bpf_core_field_offset(struct mount, mnt);
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

/* Appends a name made of bytes at a kernel address. Returns its place, 0 if there is no room. */
static u32 append(struct names *names, u32 *end, u64 from, u32 length) {
    u32 place = *end;
    length &= LONGEST - 1;
    if (place > NAMES - LONGEST) return 0;
    if (bpf_probe_read_kernel(&names->bytes[place], length, (void *)from)) return 0;
    *end = place + length;
    return 1;
}

/* Writes the name of a file as d_path does for the daemon. Returns its place among the names, 0 for unresolved. */
GLOBAL u32 name_file(struct naming *naming, struct names *names, u64 mount_address, u64 entry_address) {
    if (!naming || !names) return 0;
    u32 begin = naming->end, end, depth = naming->zero;
    struct dentry *entry = at(struct dentry, entry_address);
    u64 mount = mount_address - bpf_core_field_offset(struct mount, mnt), here = entry_address;
    bool deleted = !address_in(entry, d_hash.pprev) && address_in(entry, d_parent) != entry_address;

    if (begin > NAMES - 2 * LONGEST) return 0;
    end = begin + sizeof(u32);
    if (is_pseudo(mount_address, entry_address)) {
        u64 kind = entry->d_sb->s_magic;
        if (kind == ANON_INODE_FS) {
            const char prefix[] = "anon_inode:";
            __builtin_memcpy(&names->bytes[end & (NAMES - 1)], prefix, sizeof(prefix) - 1);
            end += sizeof(prefix) - 1;
        } else if (kind == TMPFS || kind == HUGETLBFS) {
            names->bytes[end++ & (NAMES - 1)] = '/';
            deleted = 1;
        } else
            return 0;
        if (!append(names, &end, address_in(entry, d_name.name), entry->d_name.len)) return 0;
        if (kind == ANON_INODE_FS) deleted = 0;
    } else {
        bool arrived = 0;
        bpf_repeat(2 * DEPTH) {
            if (here == naming->root_entry && mount == naming->root_mount) arrived = 1;
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
            if (here == up) {
                /* Moved away from what is mounted: the kernel tells nothing of such a path. */
                arrived = 1;
                depth = naming->zero;
                break;
            }
            if (depth < DEPTH) {
                naming->parts[depth] = address_in(at_entry, d_name.name);
                naming->lengths[depth] = at_entry->d_name.len;
            }
            depth++;
            here = up;
        }
        if (!arrived) return 0;
        bpf_repeat(DEPTH) {
            if (!depth) break;
            depth--;
            if (depth >= DEPTH || end > begin + LONGEST) return 0;
            names->bytes[end++ & (NAMES - 1)] = '/';
            if (!append(names, &end, naming->parts[depth], naming->lengths[depth])) return 0;
        }
        if (end == begin + sizeof(u32)) names->bytes[end++ & (NAMES - 1)] = '/';
    }
    if (deleted) {
        const char suffix[] = " (deleted)";
        if (end > NAMES - LONGEST) return 0;
        __builtin_memcpy(&names->bytes[end], suffix, sizeof(suffix) - 1);
        end += sizeof(suffix) - 1;
    }
    if (begin > NAMES - LONGEST) return 0;
    *(u32 *)&names->bytes[begin] = end - begin - sizeof(u32);
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


/* The bucket of a file, filled on first sight in this run. */
GLOBAL u32 bucket_of(struct naming *naming, struct names *names, u64 mount, u64 entry, u64 inode) {
    if (!naming || !names) return 0;
    u32 bucket = ((entry >> 6) * 0x9e3779b1u ^ (mount >> 5) * 0x85ebca6bu) >> 8;
    for (int probe = 0; probe < 8; probe++) {
        struct named_file *named = &naming->files[(bucket + probe) & (BUCKETS - 1)];
        bool ours = named->run == naming->run && named->name < naming->end;
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
        named->name = steady_name(naming, names, mount, entry);
        named->run = naming->run;
        return (bucket + probe) & (BUCKETS - 1);
    }
    return 0;
}
