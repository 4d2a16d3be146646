//! Tasks below their parents.

use super::row::Row;
use std::collections::{HashMap, HashSet};

/// Puts each task below its parent, siblings in the order in which they come, and notes the branches. With `top`, only
/// those of these processes and what is below them.
///
/// A thread stands below its leader. A task whose parent is not among them is a root of its own.
pub fn arrange(rows: Vec<Row>, top: &[u32]) -> Vec<Row> {
    let place: HashMap<u32, usize> = rows.iter().enumerate().map(|(at, row)| (row.pid, at)).collect();
    let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut roots = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let parent = if row.pid == row.tgid { row.base.map(|base| base.ppid) } else { Some(row.tgid) };
        let is_top = top.contains(&row.pid);
        match parent.and_then(|pid| place.get(&pid)).filter(|parent| **parent != at) {
            Some(parent) => {
                children.entry(*parent).or_default().push(at);
                if is_top {
                    roots.push(at);
                }
            }
            None if top.is_empty() || is_top => roots.push(at),
            None => {}
        }
    }
    let mut walk = Walk { children, seen: HashSet::new(), order: Vec::with_capacity(rows.len()) };
    // A chosen task that is below another chosen one comes with that.
    let below = |root: usize| {
        let mut above = HashSet::new();
        let mut at = root;
        loop {
            let Some(parent) = rows[at].base.and_then(|base| place.get(&base.ppid)) else { return false };
            if top.contains(&rows[*parent].pid) && *parent != root {
                return true;
            }
            if !above.insert(*parent) {
                return false;
            }
            at = *parent;
        }
    };
    for root in roots {
        if top.is_empty() || !below(root) {
            walk.from(root);
        }
    }
    if top.is_empty() {
        // Looked at one after the other, two tasks may each seem to be the other's parent.
        (0..rows.len()).for_each(|at| walk.from(at));
    }
    let mut rows: Vec<Option<Row>> = rows.into_iter().map(Some).collect();
    let ordered = walk.order.into_iter();
    ordered.filter_map(|(at, branches)| Some(Row { branches, ..rows[at].take()? })).collect()
}

struct Walk {
    children: HashMap<usize, Vec<usize>>,
    seen: HashSet<usize>,
    order: Vec<(usize, Vec<bool>)>,
}

impl Walk {
    /// Depth first, without recursion: a chain of forks may be long.
    fn from(&mut self, root: usize) {
        let mut open = vec![(root, Vec::new())];
        while let Some((at, branches)) = open.pop() {
            if !self.seen.insert(at) {
                continue;
            }
            let below = self.children.get(&at).map_or(&[][..], Vec::as_slice);
            for (n, child) in below.iter().enumerate().rev() {
                open.push((*child, [&branches[..], &[n + 1 < below.len()]].concat()));
            }
            self.order.push((at, branches));
        }
    }
}

/// Appends the branches that lead to a task, as `ps f` draws them.
pub fn draw(text: &mut String, branches: &[bool]) {
    let Some((_, above)) = branches.split_last() else { return };
    above.iter().for_each(|more| text.push_str(if *more { " |  " } else { "    " }));
    text.push_str(" \\_ ");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ps::row::Units;
    use task_diag::client::TaskRef;
    use task_diag::protocol::{Base, Groups, MessageWriter};

    fn rows(parents: &[(u32, u32)]) -> Vec<Row> {
        let row = |(pid, ppid): &(u32, u32)| {
            let mut bytes = [0; 28];
            MessageWriter::begin(&mut bytes, 0, *pid, *pid).unwrap().finish(false);
            let base = Base { pid: *pid, tgid: *pid, ppid: *ppid, ..Base::default() };
            let task = TaskRef::parse(&bytes).unwrap();
            Row { base: Some(base), ..Units::of_this_machine().row(&task, Groups::BASE).unwrap() }
        };
        parents.iter().map(row).collect()
    }

    fn shown(rows: Vec<Row>) -> Vec<String> {
        let line = |row: &Row| {
            let mut text = String::new();
            draw(&mut text, &row.branches);
            format!("{text}{}", row.pid)
        };
        rows.iter().map(line).collect()
    }

    #[test]
    fn children_stand_below_their_parents() {
        let all = rows(&[(1, 0), (2, 0), (5, 1), (6, 5), (7, 1), (9, 99)]);
        assert_eq!(shown(arrange(all.clone(), &[])), ["1", " \\_ 5", " |   \\_ 6", " \\_ 7", "2", "9"]);
        assert_eq!(shown(arrange(all.clone(), &[5, 6, 2])), ["2", "5", " \\_ 6"]);
        assert!(arrange(all, &[4]).is_empty());
    }

    #[test]
    fn each_is_shown_once_whatever_the_parents_say() {
        assert_eq!(shown(arrange(rows(&[(3, 4), (4, 3), (5, 5)]), &[])), ["5", "3", " \\_ 4"]);
        assert_eq!(arrange(rows(&[(3, 4), (4, 3)]), &[3]).len(), 2);
        let chain: Vec<_> = (1..3000).map(|pid| (pid, pid - 1)).collect();
        assert_eq!(arrange(rows(&chain), &[]).len(), 2999);
    }
}
