//! One dump: which tasks come next, what is gathered of them, and what is gathered before a read asks for it.

mod cgroups;
mod files_of_task;
mod gather;
pub(super) mod prefetch;
pub(super) mod walk;
