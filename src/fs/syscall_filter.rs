//! System calls that the process which answers readers never needs, and by which it could change the system, refused.
//!
//! A list of what is denied, not of what is allowed: it is there to blunt a fault of ours, and a C library that picks
//! another call for the same thing is not to take the service down. The reads themselves are bounded by capabilities.

use libc::*;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};
use std::collections::BTreeMap;
use std::io;

/// Denied whatever the arguments.
#[rustfmt::skip]
const DENIED: &[c_long] = &[
    // Mounts, roots and namespaces.
    SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_move_mount, SYS_open_tree, SYS_fsopen, SYS_fsconfig,
    SYS_fsmount, SYS_fspick, SYS_mount_setattr, SYS_setns, SYS_unshare,
    // Other programs and processes.
    SYS_execve, SYS_execveat, SYS_ptrace, SYS_process_vm_writev, SYS_process_madvise, SYS_process_mrelease,
    SYS_pidfd_getfd, SYS_pidfd_send_signal, SYS_kill, SYS_tkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo,
    SYS_setpriority, SYS_ioprio_set, SYS_sched_setaffinity, SYS_sched_setattr, SYS_sched_setparam,
    SYS_sched_setscheduler, SYS_migrate_pages, SYS_move_pages,
    // Files; they are opened for reading alone, below.
    SYS_truncate, SYS_ftruncate, SYS_fallocate, SYS_mkdirat, SYS_mknodat, SYS_unlinkat, SYS_symlinkat, SYS_linkat,
    SYS_renameat2, SYS_fchmod, SYS_fchmodat, SYS_fchown, SYS_fchownat, SYS_utimensat, SYS_setxattr,
    SYS_lsetxattr, SYS_fsetxattr, SYS_removexattr, SYS_lremovexattr, SYS_fremovexattr, SYS_open_by_handle_at,
    SYS_memfd_create, SYS_memfd_secret,
    // Ids and capabilities.
    SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid, SYS_setgroups, SYS_setfsuid,
    SYS_setfsgid, SYS_capset,
    // The network, and whatever else listens. What there is is sent by `send`, to where it was connected before.
    SYS_socket, SYS_socketpair, SYS_connect, SYS_bind, SYS_listen, SYS_accept, SYS_accept4,
    SYS_setsockopt, SYS_sendmsg, SYS_sendmmsg,
    // Memory, queues and semaphores that outlive a process, and are shared by number or name.
    SYS_shmget, SYS_shmat, SYS_shmctl, SYS_msgget, SYS_msgsnd, SYS_msgrcv, SYS_msgctl, SYS_semget, SYS_semop, SYS_semtimedop,
    SYS_semctl, SYS_mq_open, SYS_mq_unlink, SYS_mq_timedsend, SYS_mq_timedreceive, SYS_mq_notify, SYS_mq_getsetattr,
    // What holds up others at a file, tells of what they do there, or makes all disks busy.
    SYS_flock, SYS_inotify_init1, SYS_inotify_add_watch, SYS_inotify_rm_watch, SYS_sync, SYS_syncfs,
    // The machine.
    SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_reboot, SYS_swapon,
    SYS_swapoff, SYS_settimeofday, SYS_clock_settime, SYS_clock_adjtime, SYS_adjtimex, SYS_sethostname,
    SYS_setdomainname, SYS_acct, SYS_quotactl, SYS_quotactl_fd, SYS_syslog, SYS_vhangup, SYS_personality,
    // Parts of the kernel that are large, and some of which would go round this filter.
    SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register, SYS_io_setup, SYS_userfaultfd, SYS_perf_event_open,
    SYS_fanotify_init, SYS_fanotify_mark, SYS_add_key, SYS_request_key, SYS_keyctl,
    // Sessions and process groups, by which signals and the terminal are handed on.
    SYS_setsid, SYS_setpgid,
];

/// Calls that the C library has no names for everywhere; such new ones have the same number on all: fchmodat2,
/// lsm_set_self_attr, setxattrat, removexattrat, open_tree_attr, file_setattr.
const NEW_DENIED: &[c_long] = &[452, 460, 463, 466, 467, 469];

/// Calls that only this architecture has; on others the C library uses the newer ones.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLD_DENIED: &[c_long] = &[
    SYS_fork, SYS_vfork, SYS_creat, SYS_mkdir, SYS_rmdir, SYS_mknod, SYS_unlink, SYS_symlink, SYS_link, SYS_rename,
    SYS_chmod, SYS_chown, SYS_lchown, SYS_utime, SYS_utimes, SYS_futimesat, SYS_iopl, SYS_ioperm,
    SYS_modify_ldt, SYS_uselib, SYS_inotify_init,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_DENIED: &[c_long] = &[];

/// Their arguments are behind a pointer, which a filter cannot follow; the C library takes others where they are not there.
const ABSENT: &[c_long] = &[SYS_clone3, SYS_openat2];

/// `enum bpf_cmd`: what running programs takes that are loaded, BPF_PROG_TEST_RUN.
const BPF_ALLOWED: [u64; 1] = [10];

/// Of `fcntl`: what is the descriptor's own. Others make signals for whomever (F_SETOWN, F_SETSIG, F_NOTIFY), hold up who opens a
/// file (leases, locks), or change what is open (F_ADD_SEALS, F_SETPIPE_SZ).
const FCNTL_ALLOWED: &[c_int] = &[F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL];

/// Of `ioctl`: whether a file is a terminal, how a descriptor waits and is inherited; how namespaces lie within each other
/// (NS_GET_USERNS, NS_GET_PARENT, NS_GET_NSTYPE, NS_GET_OWNER_UID); another descriptor of the FUSE connection
/// (FUSE_DEV_IOC_CLONE). Any device that opens for reading has requests that change things.
const IOCTL_ALLOWED: &[u64] =
    &[0x5401, 0x5421, 0x5450, 0x5451, 0xb701, 0xb702, 0xb703, 0x8004_b704, 0x8004_e500];

/// Of `prctl`: names, questions, and what precedes another filter, which takes more away. Others would let the process outlive its parent or share a core with whom it chooses.
const PRCTL_ALLOWED: &[c_int] = &[
    PR_SET_NAME,
    PR_GET_NAME,
    PR_SET_VMA,
    PR_GET_PDEATHSIG,
    PR_GET_DUMPABLE,
    PR_CAPBSET_READ,
    PR_GET_NO_NEW_PRIVS,
    PR_SET_NO_NEW_PRIVS,
    PR_GET_SECCOMP,
];

/// Namespaces that `clone` could make.
const NAMESPACES: &[c_int] =
    &[CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET];

/// Installs it for the calling thread and those it will start.
///
/// # Errors
/// What the system says. Where nobody has made the filter for the processor, there is none, and the log says so.
pub fn install() -> io::Result<()> {
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else {
        log::warn!("no filter of system calls: there is none for {}", std::env::consts::ARCH);
        return Ok(());
    };
    for (rules, errno) in [(every(ABSENT), ENOSYS), (denied().map_err(io::Error::other)?, EPERM)] {
        let action = SeccompAction::Errno(errno as u32);
        let filter = SeccompFilter::new(on_every_abi(rules), SeccompAction::Allow, action, arch)
            .map_err(io::Error::other)?;
        let program = BpfProgram::try_from(filter).map_err(io::Error::other)?;
        apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// No rule: always.
fn every(calls: &[c_long]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

fn denied() -> Result<Rules, seccompiler::BackendError> {
    let argument = |at: u8, is: SeccompCmpOp, value: u64| {
        SeccompRule::new(vec![SeccompCondition::new(at, SeccompCmpArgLen::Dword, is, value)?])
    };
    let bit = |at: u8, bit: c_int| argument(at, MaskedEq(bit as u64), bit as u64);
    let none_of = |at: u8, values: &[u64]| {
        let others =
            values.iter().map(|value| SeccompCondition::new(at, SeccompCmpArgLen::Dword, Ne, *value));
        SeccompRule::new(others.collect::<Result<_, _>>()?)
    };
    let numbers = |values: &[c_int]| values.iter().map(|value| *value as u64).collect::<Vec<_>>();
    let writing = |at: u8| {
        // 3 is neither, and opens for ioctl alone.
        let bits = [O_WRONLY, O_RDWR, O_CREAT, O_TRUNC];
        bits.into_iter().map(|flag| bit(at, flag)).collect::<Result<Vec<_>, _>>()
    };
    let mut rules = every(DENIED);
    rules.append(&mut every(NEW_DENIED));
    rules.append(&mut every(OLD_DENIED));
    #[cfg(not(target_arch = "riscv64"))]
    rules.append(&mut every(&[SYS_renameat, SYS_kexec_file_load]));
    // Those that the x32 ABI counts apart, execve among them.
    #[cfg(target_arch = "x86_64")]
    rules.append(&mut every(&(512..=547).collect::<Vec<_>>()));
    rules.insert(SYS_openat, writing(2)?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(SYS_open, writing(1)?);
    // A process of its own would go on when this one is killed, and with it the connection. Threads are no processes.
    let mut clones = vec![argument(0, MaskedEq(CLONE_THREAD as u64), 0)?];
    for namespace in NAMESPACES {
        clones.push(bit(0, *namespace)?);
    }
    rules.insert(SYS_clone, clones);
    rules.insert(SYS_bpf, vec![none_of(0, &BPF_ALLOWED)?]);
    rules.insert(
        SYS_fcntl,
        vec![none_of(1, &numbers(FCNTL_ALLOWED))?, {
            let commands = SeccompCondition::new(1, SeccompCmpArgLen::Dword, Eq, F_SETFL as u64)?;
            let asynchronous =
                SeccompCondition::new(2, SeccompCmpArgLen::Dword, MaskedEq(O_ASYNC as u64), O_ASYNC as u64)?;
            SeccompRule::new(vec![commands, asynchronous])?
        }],
    );
    rules.insert(SYS_ioctl, vec![none_of(1, IOCTL_ALLOWED)?]);
    rules.insert(SYS_prctl, vec![none_of(0, &numbers(PRCTL_ALLOWED))?]);
    // To another than it was connected to.
    rules.insert(
        SYS_sendto,
        vec![SeccompRule::new(vec![SeccompCondition::new(4, SeccompCmpArgLen::Qword, Ne, 0)?])?],
    );
    // abort(3) signals itself.
    rules.insert(SYS_tgkill, vec![argument(0, Ne, std::process::id().into())?]);
    // The limits of others.
    rules.insert(SYS_prlimit64, vec![argument(0, Ne, 0)?]);
    for call in [SYS_mmap, SYS_mprotect, SYS_pkey_mprotect] {
        rules.insert(call, vec![bit(2, PROT_EXEC)?]);
    }
    Ok(rules)
}

/// The same for the calls of the x32 ABI, which the kernel counts to the same architecture.
#[cfg(target_arch = "x86_64")]
fn on_every_abi(mut rules: Rules) -> Rules {
    const X32: i64 = 0x4000_0000;
    let mirrored: Vec<_> = rules.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
    rules.extend(mirrored);
    rules
}
#[cfg(not(target_arch = "x86_64"))]
fn on_every_abi(rules: Rules) -> Rules {
    rules
}

#[cfg(test)]
mod tests {
    use super::install;
    use nix::errno::Errno;
    use std::fs::{File, OpenOptions};
    use std::os::fd::AsRawFd;
    use std::process::Command;

    fn raw(call: libc::c_long, arguments: [u64; 3]) -> Result<i64, Errno> {
        let [a, b, c] = arguments;
        // SAFETY: each of the calls below is refused, or takes numbers alone.
        Errno::result(unsafe { libc::syscall(call, a, b, c, 0_u64, 0_u64, 0_u64) })
    }

    fn number(value: libc::c_int) -> u64 {
        value as u32 as u64
    }

    /// The filter is a thread's own.
    fn filtered<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = std::thread::spawn(|| {
            nix::sys::prctl::set_no_new_privs().unwrap();
            install().unwrap();
            look()
        });
        thread.join().unwrap()
    }

    #[test]
    fn what_is_needed_is_allowed() {
        filtered(|| {
            assert!(std::fs::read("/proc/self/maps").unwrap().len() > 100);
            assert!(File::open("/dev/null").is_ok());
            assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
            // It gets as far as the kernel's own reasons for refusing it.
            for command in super::BPF_ALLOWED {
                assert_ne!(raw(libc::SYS_bpf, [command, 0, 0]), Err(Errno::EPERM));
            }
            assert_eq!(raw(libc::SYS_tgkill, [std::process::id().into(), 1 << 30, 0]), Err(Errno::ESRCH));
            let file = File::open("/proc/self/ns/user").unwrap();
            assert!(file.try_clone().is_ok());
            let fd = file.as_raw_fd() as u64;
            assert!(raw(libc::SYS_fcntl, [fd, number(libc::F_SETFL), number(libc::O_NONBLOCK)]).is_ok());
            assert_eq!(raw(libc::SYS_ioctl, [fd, 0xb703, 0]), Ok(libc::CLONE_NEWUSER.into())); // NS_GET_NSTYPE
            let named = std::thread::Builder::new()
                .name("named".into())
                .spawn(|| std::fs::read_to_string("/proc/thread-self/comm").unwrap());
            assert_eq!(named.unwrap().join().unwrap(), "named\n");
        });
    }

    #[test]
    fn what_changes_things_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        std::fs::write(&path, "as it was").unwrap();
        let target = path.clone();
        filtered(move || {
            let refused = |e: std::io::Error| assert_eq!(e.raw_os_error(), Some(libc::EPERM));
            refused(OpenOptions::new().write(true).open(&target).unwrap_err());
            refused(OpenOptions::new().read(true).write(true).open(&target).unwrap_err());
            refused(File::create(target.with_extension("new")).unwrap_err());
            refused(std::fs::remove_file(&target).unwrap_err());
            refused(std::fs::rename(&target, target.with_extension("new")).unwrap_err());
            refused(std::os::unix::net::UnixDatagram::unbound().unwrap_err());
            refused(Command::new("/bin/true").status().unwrap_err());
            let exec = u64::from(libc::PROT_EXEC as u32);
            for (call, arguments) in [
                (libc::SYS_bpf, [5, 0, 0]),
                (libc::SYS_mmap, [0, 4096, exec]),
                (libc::SYS_kill, [u64::from(std::process::id()), 0, 0]),
                (libc::SYS_tgkill, [1, 1, 0]),
                (libc::SYS_ptrace, [0; 3]),
                (libc::SYS_unshare, [0; 3]),
                (libc::SYS_clone, [0; 3]),
                (libc::SYS_setsockopt, [0; 3]),
                (libc::SYS_sendmsg, [0; 3]),
                (libc::SYS_fcntl, [0, number(libc::F_SETFL), number(libc::O_ASYNC | libc::O_NONBLOCK)]),
                (libc::SYS_prctl, [number(libc::PR_SET_PDEATHSIG), 0, 0]),
                (libc::SYS_prctl, [62, 1, 1]), // PR_SCHED_CORE
                (libc::SYS_prctl, [number(libc::PR_SET_SECCOMP), 0, 0]),
                (
                    libc::SYS_clone,
                    [
                        number(
                            libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::CLONE_VM | libc::CLONE_NEWNET,
                        ),
                        0,
                        0,
                    ],
                ),
                (460, [0; 3]),
            ] {
                assert_eq!(raw(call, arguments), Err(Errno::EPERM), "{call}");
            }
            const F_SETSIG: libc::c_int = 10;
            const F_SETOWN_EX: libc::c_int = 15;
            for command in [
                libc::F_SETOWN,
                F_SETSIG,
                F_SETOWN_EX,
                libc::F_SETLK,
                libc::F_SETLKW,
                libc::F_OFD_SETLK,
                libc::F_SETLEASE,
                libc::F_NOTIFY,
                libc::F_SETPIPE_SZ,
                libc::F_ADD_SEALS,
                libc::F_GETOWN,
                9999,
            ] {
                assert_eq!(
                    raw(libc::SYS_fcntl, [0, number(command), 0]),
                    Err(Errno::EPERM),
                    "fcntl {command}"
                );
            }
            const FIOASYNC: u64 = 0x5452;
            for request in [
                number(libc::TIOCSTI as i32),
                number(libc::TIOCSCTTY as i32),
                number(libc::SIOCSIFFLAGS as i32),
                number(libc::TUNSETIFF as i32),
                number(libc::TUNSETPERSIST as i32),
                number(libc::FS_IOC_SETFLAGS as i32),
                number(libc::FICLONE as i32),
                FIOASYNC,
                0x8901,
                0x8902,
                0xaa00,
                0xae01,
                0x4008_af00,
                0x1_0000_0000 | FIOASYNC,
            ] {
                assert_eq!(raw(libc::SYS_ioctl, [0, request, 0]), Err(Errno::EPERM), "ioctl {request:x}");
            }
            for call in [
                libc::SYS_shmget,
                libc::SYS_shmat,
                libc::SYS_shmctl,
                libc::SYS_msgget,
                libc::SYS_msgsnd,
                libc::SYS_msgctl,
                libc::SYS_semget,
                libc::SYS_semop,
                libc::SYS_semctl,
                libc::SYS_mq_open,
                libc::SYS_mq_unlink,
                libc::SYS_mq_notify,
                libc::SYS_flock,
                libc::SYS_inotify_init1,
                libc::SYS_sync,
                libc::SYS_setsid,
                libc::SYS_memfd_create,
                libc::SYS_userfaultfd,
                libc::SYS_perf_event_open,
                libc::SYS_keyctl,
                libc::SYS_io_uring_setup,
                libc::SYS_pidfd_getfd,
                libc::SYS_process_vm_writev,
                libc::SYS_setns,
                libc::SYS_mount,
                libc::SYS_setuid,
                libc::SYS_capset,
                libc::SYS_init_module,
                libc::SYS_settimeofday,
                libc::SYS_open_by_handle_at,
                libc::SYS_sched_setaffinity,
            ] {
                assert_eq!(raw(call, [0; 3]), Err(Errno::EPERM), "{call}");
            }
            // SAFETY: refused; the address is none.
            let elsewhere = unsafe { libc::syscall(libc::SYS_sendto, 0, 0, 0, 0, 8_u64, 8) };
            assert_eq!(Errno::result(elsewhere), Err(Errno::EPERM));
            assert_eq!(raw(libc::SYS_openat2, [0; 3]), Err(Errno::ENOSYS));
            #[cfg(target_arch = "x86_64")]
            // openat(2) to write, and execve(2), as the x32 ABI counts them.
            for (call, arguments) in [(257, [0, 0, 1]), (520, [0; 3])] {
                assert_eq!(raw(0x4000_0000 | call, arguments), Err(Errno::EPERM), "{call}");
            }
        });
        assert_eq!(std::fs::read(&path).unwrap(), b"as it was");
        assert_eq!(place.path().read_dir().unwrap().count(), 1);
    }
}
