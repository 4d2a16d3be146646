/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* The few kernel types that the programs read: only the fields used, found by name at load time (CO-RE). What differs
 * from kernel to kernel is asked of its BTF (bpf_core_field_exists), never of its version; `name___variant` is the type
 * `name` of other kernels. A struct of which only the place is used has one member, as compilers want one. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;
typedef u8 __u8;
typedef u16 __u16;
typedef u32 __u32;
typedef u64 __u64;
typedef short __s16;
typedef s32 __s32;
typedef s64 __s64;
typedef u16 __be16;
typedef u32 __be32;
typedef u32 __wsum;
typedef _Bool bool;
enum { BPF_MAP_TYPE_ARRAY = 2, BPF_MAP_TYPE_PERCPU_ARRAY = 6, BPF_F_MMAPABLE = 1 << 10 };

struct bpf_iter_num {
    u64 opaque[1];
} __attribute__((aligned(8)));

#ifdef PROBE_READS
/* Loops for kernels without bpf_iter_num: short enough for the verifier to follow round by round. What is left over is
 * for another run, or for /proc. */
#define bpf_for(i, start, end) bpf_for_up_to(64, i, start, end)
#define bpf_for_up_to(most, i, start, end) for (i = (start); i < (end) && i < (most); i++)
#define bpf_repeat(limit) for (u32 round = 0; round < ((limit) < ROUNDS ? (limit) : ROUNDS); round++)
#define PROBING 1
#define ROUNDS 256
#else
#define bpf_for_up_to(most, i, start, end) bpf_for(i, start, end)
#define PROBING 0
#endif
#define MAX_CPUS 1024
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct list_head {
    struct list_head *next, *prev;
};
struct hlist_node {
    struct hlist_node *next, **pprev;
};
struct hlist_head {
    struct hlist_node *first;
};
struct timespec64 {
    s64 tv_sec;
};

struct xa_node {
    unsigned char shift;
    void *slots[64];
};
struct xarray {
    void *xa_head;
};
struct idr {
    struct xarray idr_rt;
};

/* kuid_t and kgid_t */
struct kernel_id {
    u32 val;
};
struct ns_common {
    const struct proc_ns_operations *ops;
    unsigned int inum;
};
struct user_namespace {
    struct user_namespace *parent;
    int level;
    struct kernel_id owner;
    struct ns_common ns;
};
struct task_struct;
struct pid_namespace {
    struct idr idr;
    struct task_struct *child_reaper;
    struct ns_common ns;
};
struct upid {
    int nr;
    struct pid_namespace *ns;
};
struct pid {
    unsigned int level;
    struct hlist_head tasks[4];
    struct upid numbers[1];
};

/* Capability sets were `u32 cap[2]` before 6.3: only their places are used. */
struct cred {
    struct kernel_id uid, gid, suid, sgid, euid, egid, fsuid, fsgid;
    unsigned int securebits;
    struct {
        u32 low;
    } cap_inheritable, cap_permitted, cap_effective, cap_bset, cap_ambient;
    struct user_namespace *user_ns;
    struct group_info *group_info;
};
struct group_info {
    int ngroups;
    struct kernel_id gid[1];
};

struct percpu_counter {
    struct {
        u32 word;
    } lock;
    s64 count;
    s32 *counters;
};
struct maple_tree {
    void *ma_root;
};
struct maple_range_64 {
    unsigned long pivot[15];
    void *slot[16];
};
struct maple_arange_64 {
    unsigned long pivot[9];
    void *slot[10];
};
struct rw_semaphore {
    struct {
        s64 counter;
    } count;
};
struct mm_struct {
    struct maple_tree mm_mt;
    void *pgd;
    struct rw_semaphore mmap_lock;
    struct {
        u32 sequence;
    } mm_lock_seq;
    unsigned long brk, start_brk, start_stack;
    struct {
        s64 counter;
    } pgtables_bytes, pinned_vm;
    unsigned long hiwater_rss, hiwater_vm, total_vm, locked_vm, data_vm, exec_vm, stack_vm;
    unsigned long start_code, end_code, arg_start, arg_end, env_start, env_end;
    struct percpu_counter rss_stat[4];
    struct {
        struct {
            s64 counter;
        } tlb_gen;
    } context;
    unsigned long flags;
    struct user_namespace *user_ns;
    struct file *exe_file;
};
/* A bitmap of their own type is what the flags became in 6.18. */
struct mm_struct___bitmap {
    struct {
        unsigned long words[1];
    } flags;
};
/* A plain number is what the lock's sequence was before 6.13. */
struct mm_struct___counted {
    int mm_lock_seq;
};
/* Whether and to whom a task may be dumped, since 7.2: it outlives the memory, and is freed by RCU. */
enum task_dumpable { TASK_DUMPABLE_OFF, TASK_DUMPABLE_OWNER, TASK_DUMPABLE_ROOT };
struct task_exec_state {
    enum task_dumpable dumpable;
    struct user_namespace *user_ns;
};
/* Before 6.2 the counters were plain. */
struct mm_rss_stat {
    struct {
        s64 counter;
    } count[4];
};
struct mm_struct___plain {
    struct mm_rss_stat rss_stat;
};

struct prev_cputime {
    u64 utime, stime;
};
struct task_io_accounting {
    u64 rchar, wchar, syscr, syscw, read_bytes, write_bytes, cancelled_write_bytes;
};
struct rlimit {
    unsigned long rlim_cur, rlim_max;
};
struct tty_driver {
    int major, minor_start;
};
struct tty_struct {
    int index;
    struct tty_driver *driver;
    struct {
        struct pid *pgrp;
    } ctrl;
};
struct signal_struct {
    int nr_threads;
    struct list_head thread_head;
    struct pid *pids[4];
    struct {
        struct {
            struct {
                unsigned int sequence;
            } seqcount;
        } seqcount;
    } stats_lock;
    struct tty_struct *tty;
    u64 utime, stime, cutime, cstime, gtime, cgtime;
    struct prev_cputime prev_cputime;
    unsigned long min_flt, maj_flt, cmin_flt, cmaj_flt;
    struct task_io_accounting ioac;
    unsigned long long sum_sched_runtime;
    struct rlimit rlim[16];
    short oom_score_adj;
    struct rw_semaphore exec_update_lock;
};
struct sched_entity {
    u64 sum_exec_runtime;
};
struct thread_info {
    u32 cpu;
};
struct seccomp {
    int mode;
};
struct task_delay_info {
    u64 blkio_delay;
};
struct uts_namespace {
    struct ns_common ns;
};
struct ipc_namespace {
    struct ns_common ns;
};
struct mnt_namespace {
    struct ns_common ns;
};
struct net {
    struct ns_common ns;
};
struct time_namespace {
    struct ns_common ns;
};
struct cgroup_namespace {
    struct ns_common ns;
};
struct nsproxy {
    struct uts_namespace *uts_ns;
    struct ipc_namespace *ipc_ns;
    struct mnt_namespace *mnt_ns;
    struct pid_namespace *pid_ns_for_children;
    struct net *net_ns;
    struct time_namespace *time_ns, *time_ns_for_children;
    struct cgroup_namespace *cgroup_ns;
};
struct task_struct {
    struct thread_info thread_info;
    unsigned int __state;
    unsigned int flags, ptrace, rt_priority, policy;
    int prio, static_prio;
    struct sched_entity se;
    struct mm_struct *mm;
    int exit_state, exit_signal;
    unsigned user_dumpable : 1, in_execve : 1;
    int pid, tgid;
    struct task_struct *real_parent, *parent;
    struct list_head children, sibling;
    struct task_struct *group_leader;
    struct pid *thread_pid;
    struct hlist_node pid_links[4];
    struct list_head thread_node;
    unsigned long atomic_flags;
    u64 utime, stime, gtime;
    struct prev_cputime prev_cputime;
    unsigned long nvcsw, nivcsw;
    u64 start_boottime;
    u64 self_exec_id;
    struct fs_struct *fs;
    struct files_struct *files;
    struct nsproxy *nsproxy;
    struct kernel_id loginuid;
    unsigned int sessionid;
    struct seccomp seccomp;
    struct task_io_accounting ioac;
    struct css_set *cgroups;
    struct task_delay_info *delays;
    unsigned long min_flt, maj_flt;
    struct cred *real_cred, *cred;
    struct task_exec_state *exec_state;
    char comm[16];
    struct signal_struct *signal;
};
struct qstr {
    u32 len;
    const unsigned char *name;
};
struct dentry_operations {
    void *d_dname;
};
struct hlist_bl_node {
    void *next, *pprev;
};
struct super_block {
    u32 s_dev;
    unsigned long s_magic;
};
struct inode {
    u16 i_mode;
    struct super_block *i_sb;
    unsigned long i_ino;
    u32 i_generation;
    void *i_private;
};
struct dentry {
    struct hlist_bl_node d_hash;
    struct dentry *d_parent;
    struct qstr d_name;
    struct inode *d_inode;
    const struct dentry_operations *d_op;
    struct super_block *d_sb;
};
struct vfsmount {
    struct dentry *mnt_root;
};
struct mount {
    struct mount *mnt_parent;
    struct dentry *mnt_mountpoint;
    struct vfsmount mnt;
};
struct path {
    struct vfsmount *mnt;
    struct dentry *dentry;
};
struct file {
    unsigned int f_mode, f_flags;
    struct inode *f_inode;
    struct path f_path;
    s64 f_pos;
};
/* A file of overlayfs as it is mapped: the path that the user opened. */
struct backing_file {
    struct path user_path;
};
struct fs_struct {
    struct path root, pwd;
};
struct fdtable {
    unsigned int max_fds;
    struct file **fd;
    unsigned long *close_on_exec, *open_fds;
};
struct files_struct {
    struct fdtable *fdt;
};
struct proc_ns_operations {
    const char *name;
};
struct vm_special_mapping {
    const char *name;
};
struct vm_operations_struct {
    void *name;
};
struct anon_vma_name {
    char name[1];
};
struct vm_area_struct {
    struct mm_struct *vm_mm;
    unsigned long vm_start, vm_end, vm_flags, vm_pgoff;
    const struct vm_operations_struct *vm_ops;
    struct file *vm_file;
    void *vm_private_data;
    struct anon_vma_name *anon_name;
};
struct bpf_array {
    void *pptrs[1];
};

#pragma clang attribute pop

enum pid_type { PIDTYPE_PID, PIDTYPE_TGID, PIDTYPE_PGID, PIDTYPE_SID };
enum { MM_FILEPAGES, MM_ANONPAGES, MM_SWAPENTS, MM_SHMEMPAGES };

#define place(object, field) ((u64)(object) + bpf_core_field_offset((object)->field))
/* A pointer field as a plain number. */
#define address_in(object, field) word_at(place(object, field))
/* What a pid is called at a level. (At most 32 levels, as the verifier has to be told.) */
#define upid_at(pid, level)                                                                                            \
    ((struct upid *)(place(pid, numbers) + ((level) * bpf_core_type_size(struct upid) & 0x3ff)))

#ifdef PROBE_READS
/* For kernels before 6.4, which lack the functions below: objects are plain numbers, and every load a call. The programs
 * are run as if a tracepoint had been met, in one RCU read section from beginning to end. */
#define PROGRAM "raw_tp"
static void bpf_rcu_read_lock(void) {}
static void bpf_rcu_read_unlock(void) {}
#define current_task() ((struct task_struct *)bpf_get_current_task())
#define at(type, address) ((type *)(address))
#define word_at(address) ({ u64 word_ = 0; bpf_probe_read_kernel(&word_, 8, (const void *)(address)); word_; })
#define int_at(address) ({ u32 int_ = 0; bpf_probe_read_kernel(&int_, 4, (const void *)(address)); int_; })
#define get(field) ({ typeof(field) field_; bpf_probe_read_kernel(&field_, sizeof(field_), (const void *)&(field)); field_; })
#define fresh(field) get(field)
#define get_bit BPF_CORE_READ_BITFIELD_PROBED
#else
#define PROGRAM "syscall"
void bpf_rcu_read_lock(void) __ksym;
void bpf_rcu_read_unlock(void) __ksym;
void *bpf_rdonly_cast(const void *object, u32 btf_id) __ksym;
#define current_task() ((struct task_struct *)bpf_get_current_task_btf())

/* Takes any number as the address of a kernel object. Loads through it are checked by the fault handler: a wild one
 * yields 0. They are compiled inline, so cost a fraction of bpf_probe_read_kernel. */
#define at(type, address) ((type *)bpf_rdonly_cast((const void *)(address), bpf_core_type_id_kernel(type)))
/* The plain word or number at an address: types that begin with one, whatever the kernel. */
#define word_at(address) (*(volatile u64 *)&at(struct timespec64, address)->tv_sec)
#define int_at(address) (*(volatile u32 *)&at(struct upid, address)->nr)
/* A field of a kernel object. */
#define get(field) (field)
/* The same read anew, whatever the compiler remembers of it. */
#define fresh(field) (*(volatile typeof(field) *)&(field))
#define get_bit BPF_CORE_READ_BITFIELD
#endif
/* Two numbers of 32 bits in one load where they lie side by side. */
#define pair(object, low, high)                                                                                        \
    (bpf_core_field_offset((object)->high) == bpf_core_field_offset((object)->low) + 4                                \
         ? word_at(place(object, low))                                                                                 \
         : int_at(place(object, low)) | (u64)int_at(place(object, high)) << 32)

/* How a program is called: the number of the slot in which the request stands. */
struct run {
    u64 slot;
};
