//! Names of users and groups, each looked up once.

use nix::unistd::{Gid, Group, Uid, User};
use std::collections::HashMap;

#[derive(Debug, Default)]
pub struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    /// The user's name, or the number of one without.
    pub fn user(&mut self, uid: u32) -> &str {
        self.users.entry(uid).or_insert_with(|| match User::from_uid(Uid::from_raw(uid)) {
            Ok(Some(user)) => safe(user.name),
            _ => uid.to_string(),
        })
    }

    /// The group's name, or the number of one without.
    pub fn group(&mut self, gid: u32) -> &str {
        self.groups.entry(gid).or_insert_with(|| match Group::from_gid(Gid::from_raw(gid)) {
            Ok(Some(group)) => safe(group.name),
            _ => gid.to_string(),
        })
    }
}

fn safe(name: String) -> String {
    crate::cli::printable::printable(name.as_bytes())
}
