//! Who reads, and what the kernel would let that reader see.

mod caller;
mod policy;

pub use caller::{CallerError, Reader};
pub(crate) use policy::ids_match;
pub use policy::{CAP_SYS_PTRACE, may_see};
