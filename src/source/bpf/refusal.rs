//! Why a kernel does not take a program: what libbpf says while it loads one.

use libbpf_rs::PrintLevel;
use std::cell::RefCell;
use std::io;
use thiserror::Error;

/// Why programs cannot be used, and what would help.
#[derive(Debug, Error)]
pub enum LoadError {
    /// Nobody has tried them on such a processor.
    #[error("the BPF programs are made for x86-64 and arm64")]
    Architecture,
    /// This process may not load any (`EPERM`).
    #[error(
        "this process may not load BPF programs; start it as root or with CAP_BPF and CAP_PERFMON (a kernel locked \
         down to confidentiality lets nobody)"
    )]
    NotPermitted,
    /// The kernel does not describe its own structures.
    #[error("this kernel has no BTF; one built with CONFIG_DEBUG_INFO_BTF has /sys/kernel/btf/vmlinux")]
    NoBtf,
    /// It lacks a function that the program calls.
    #[error("{program}: this kernel has no function {function} for BPF programs; newer kernels have")]
    NoFunction {
        /// Which program.
        program: &'static str,
        /// Its name.
        function: String,
    },
    /// It has no such field, or another one of that name.
    #[error("{program}: this kernel has no {field} as the program knows it; please report it")]
    NoField {
        /// Which program.
        program: &'static str,
        /// `struct NAME.FIELD`.
        field: String,
    },
    /// Its verifier refuses the program.
    #[error(
        "{program}: the kernel's verifier says: {verdict}; please report it with the log of RUST_LOG=debug"
    )]
    Refused {
        /// Which program.
        program: &'static str,
        /// The line of its log that says why.
        verdict: String,
    },
    /// Anything else.
    #[error("{program}: {why}")]
    Failed {
        /// Which program.
        program: &'static str,
        /// What libbpf says.
        why: String,
    },
    /// What loads does not work.
    #[error("the BPF programs do not work here: {0}")]
    Unusable(#[source] io::Error),
}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        LoadError::Unusable(error)
    }
}

impl LoadError {
    /// Whether a part of the program may be to blame, so that the rest of it loads.
    pub(super) fn is_of_a_part(&self) -> bool {
        matches!(self, LoadError::NoFunction { .. } | LoadError::NoField { .. } | LoadError::Refused { .. })
    }
}

thread_local! {
    /// What libbpf says on this thread, while somebody listens.
    static MESSAGES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Has what libbpf says come here, and to the log.
pub(super) fn listen() {
    libbpf_rs::set_print(Some((PrintLevel::Debug, |_, text| {
        log::debug!("{}", text.trim_end());
        MESSAGES
            .with_borrow_mut(|messages| messages.iter_mut().for_each(|messages| messages.push(text.clone())));
    })));
}

/// Runs a step of loading `program`; gives what libbpf said of it, too.
pub(super) fn explained<T>(
    program: &'static str,
    load: impl FnOnce() -> Result<T, libbpf_rs::Error>,
) -> Result<(T, String), LoadError> {
    MESSAGES.set(Some(Vec::new()));
    let outcome = load();
    let said = MESSAGES.take().unwrap_or_default().concat();
    match outcome {
        Ok(loaded) => Ok((loaded, said)),
        Err(error) => Err(why(program, &error, &said)),
    }
}

/// The reason, from what libbpf says.
fn why(program: &'static str, error: &libbpf_rs::Error, said: &str) -> LoadError {
    let between = |before: &str, after: &str| {
        said.lines().find_map(|line| Some(line.split_once(before)?.1.split_once(after)?.0.to_owned()))
    };
    if said.contains("kernel BTF is missing") || said.contains("failed to find valid kernel BTF") {
        LoadError::NoBtf
    } else if let Some(function) = between("extern (func ksym) '", "': ") {
        LoadError::NoFunction { program, function }
    } else if let Some(relocation) = between("failed to resolve CO-RE relocation ", " (") {
        // <byte_off> [45] struct mm_struct.user_ns
        let field = relocation.split_once("] ").map_or(&*relocation, |(_, field)| field).to_owned();
        LoadError::NoField { program, field }
    } else if let Some(verdict) = verdict(said) {
        LoadError::Refused { program, verdict }
    } else if error.kind() == libbpf_rs::ErrorKind::PermissionDenied {
        LoadError::NotPermitted
    } else {
        LoadError::Failed { program, why: error.to_string() }
    }
}

/// The line of a verifier's log that says why, which is the last one but for its sums.
fn verdict(said: &str) -> Option<String> {
    let (_, log) = said.rsplit_once("-- BEGIN PROG LOAD LOG --\n")?;
    let (log, _) = log.split_once("-- END PROG LOAD LOG --")?;
    let sums = ["processed ", "verification time ", "stack depth ", "peak_states ", "max_states"];
    let is_verdict = |line: &&str| !line.is_empty() && !sums.iter().any(|sum| line.starts_with(sum));
    log.lines().map(str::trim).rev().find(is_verdict).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(errno: i32, said: &str) -> String {
        why("tasks", &libbpf_rs::Error::from_raw_os_error(errno), said).to_string()
    }

    #[test]
    fn reasons_are_those_of_libbpf() {
        let log = |log: &str| {
            format!(
                "libbpf: prog 'gather': BPF program load failed: -EACCES\nlibbpf: prog 'gather': -- BEGIN PROG LOAD LOG --\n{log}-- END PROG LOAD LOG --\n"
            )
        };
        let sums = "verification time 10685 usec\nstack depth 72+8\nprocessed 4441 insns (limit 1000000) max_states_per_insn 4\n";
        let unbounded = "2068: (73) *(u8 *)(r7 +0) = r1\nR7 unbounded memory access, make sure to bounds check any such access\n";
        assert!(
            of(libc::EACCES, &log(&format!("{unbounded}{sums}")))
                .contains("tasks: the kernel's verifier says: R7 unbounded memory access")
        );
        let field = "12: <invalid CO-RE relocation>\nfailed to resolve CO-RE relocation <byte_off> [45] struct mm_struct.user_ns (0:14 @ offset 80)\n";
        assert!(of(libc::EINVAL, &log(&format!("{field}{sums}"))).contains("no struct mm_struct.user_ns as"));
        let function = "libbpf: extern (func ksym) 'bpf_rcu_read_lock': not found in kernel or module BTFs\nlibbpf: failed to load object\n";
        assert!(of(libc::EINVAL, function).contains("no function bpf_rcu_read_lock"));
        let btf = "libbpf: kernel BTF is missing at '/sys/kernel/btf/vmlinux', was CONFIG_DEBUG_INFO_BTF enabled?\n";
        assert!(of(libc::ESRCH, btf).contains("CONFIG_DEBUG_INFO_BTF"));
        assert!(of(libc::EPERM, "libbpf: failed to load object\n").contains("CAP_BPF"));
        assert!(!of(libc::ENOMEM, "").contains("CAP_BPF"));
    }
}
