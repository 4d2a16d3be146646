//! Who reads, and what the kernel would let that reader see.

mod account;
mod caller;
mod id_map;
mod namespaces;
mod policy;

pub use account::Account;
pub use caller::{CallerError, Reader};
pub use id_map::IdMaps;
pub(crate) use id_map::person;
pub use namespaces::PidNamespace;
pub(crate) use namespaces::user_ns_below;
pub(crate) use policy::ids_match;
pub use policy::{CAP_SYS_PTRACE, CAPS_DAC, Sight, Visibility, may_see, sight};
