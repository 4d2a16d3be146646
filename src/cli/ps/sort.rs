//! Tasks in order.

use super::column::Column;
use super::name_cache::NameCache;
use super::row::Row;
use std::cmp::Ordering;

/// A column to sort by, and whether from its largest value down.
#[derive(Clone, Copy, Debug)]
pub struct SortKey {
    pub column: Column,
    pub descending: bool,
}

impl std::str::FromStr for SortKey {
    type Err = String;

    fn from_str(text: &str) -> Result<SortKey, String> {
        let descending = text.starts_with('-');
        let name = text.strip_prefix(['-', '+']).unwrap_or(text);
        Ok(SortKey { column: name.parse()?, descending })
    }
}

/// Sorts by the first key, tasks that are equal in it by the next; equal ones stay as they are.
pub fn sort(rows: &mut [Row], keys: &[SortKey], names: &mut NameCache) {
    if keys.is_empty() {
        return;
    }
    rows.sort_by(|a, b| {
        keys.iter().fold(Ordering::Equal, |order, key| {
            order.then_with(|| {
                let order = key.column.compare(a, b, names);
                if key.descending { order.reverse() } else { order }
            })
        })
    });
}
