//! Processes of known shape. They stand still once they are made, so that two looks at one see the same.

pub mod farm;
pub mod lives;
pub mod memory;
pub mod names;
pub mod users;

use super::child::{Child, Inside, ThreadPlan};
use super::{proc, wait};
use tempfile::TempDir;

/// One process of the zoo. When dropped it is killed, with all that it made.
pub struct Animal {
    /// What is odd about it.
    pub name: &'static str,
    /// The process to look at: the child, or one that the child made.
    pub pid: u32,
    /// Letter of the state in which it stands still.
    pub state: u8,
    /// The directory of the files that it maps.
    pub files: Option<TempDir>,
    pub child: Child,
}

impl Animal {
    /// The child itself, once it stands still.
    #[track_caller]
    pub fn new(name: &'static str, state: u8, child: Child) -> Animal {
        let pid = child.pid();
        Self::of(name, pid, state, child)
    }

    /// A process that the child made, once it stands still.
    #[track_caller]
    pub fn of(name: &'static str, pid: u32, state: u8, child: Child) -> Animal {
        let animal = Animal { name, pid, state, files: None, child };
        animal.wait_until_still();
        animal
    }

    /// Waits until it is in its state and no thread of it runs.
    #[track_caller]
    pub fn wait_until_still(&self) {
        let name = self.name;
        wait::until(&format!("{name} stands still"), || {
            let threads = proc::threads(self.pid);
            let all = threads.iter().all(|tid| match proc::Stat::of(&format!("{}/task/{tid}", self.pid)) {
                Some(stat) if *tid == self.pid => stat.state() == self.state,
                Some(stat) => stat.state() != b'R',
                None => false,
            });
            all && !threads.is_empty()
        });
    }
}

/// A name as the kernel keeps it. Async-signal-safe.
pub const fn comm(text: &[u8]) -> [u8; 16] {
    let mut name = [0; 16];
    let mut at = 0;
    while at < text.len() && at < 15 {
        name[at] = text[at];
        at += 1;
    }
    name
}

/// A thread that does nothing.
pub const fn idle_thread(name: &[u8]) -> ThreadPlan {
    fn nothing(_: &Inside, _: usize) {}
    ThreadPlan { name: comm(name), run: nothing, number: 0 }
}

/// One of each shape.
pub fn all() -> Vec<Animal> {
    let mut animals = lives::all();
    animals.extend(names::all());
    animals.extend(memory::all());
    animals.extend(users::all());
    animals
}
