//! What a security module keeps from this process is nobody's to see.

use crate::access::{Reader, may_see};
use crate::proc_files::Guard;
use crate::task::{Facts, TaskRecord};

/// Notes it in the record of a task that `reader` may see otherwise; `instance` tells the task from others of its number.
pub(super) fn mark(guard: Guard<'_>, reader: &Reader, record: &mut TaskRecord, instance: u64) {
    // The kernel asks its modules no more where it is the reader's own process.
    let others = !record.facts().contains(Facts::SAME_THREAD_GROUP) && may_see(reader, record);
    if others && guard.refuses(record.daemons_pid, instance) {
        record.facts |= Facts::REFUSED.bits();
    }
}
