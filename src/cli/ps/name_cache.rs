//! Names of users, groups and terminals, each looked up once.

use nix::unistd::{Gid, Group, Uid, User};
use std::collections::HashMap;

#[derive(Debug, Default)]
pub struct NameCache {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
    terminals: HashMap<i32, String>,
}

impl NameCache {
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

    /// The terminal's path below /dev, by the number that `/proc/PID/stat` gives; `?` for none.
    pub fn terminal(&mut self, device: i32) -> &str {
        self.terminals.entry(device).or_insert_with(|| {
            let device = device as u32;
            let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
            if let 136..=143 = major {
                return format!("pts/{}", (major - 136) * 256 + minor);
            }
            let is_there = std::fs::read_link(format!("/sys/dev/char/{major}:{minor}"));
            let name = is_there.ok().and_then(|link| Some(link.file_name()?.to_string_lossy().into_owned()));
            name.map_or_else(|| "?".into(), safe)
        })
    }
}

fn safe(name: String) -> String {
    crate::cli::printable::printable(name.as_bytes())
}
