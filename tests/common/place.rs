//! Places for files with special demands.

use super::identity::Identity;
use super::zoo::users;
use std::os::unix::fs::PermissionsExt;

/// A directory that everyone may search, on a file system that obeys set-user-id.
pub fn place_for_set_user_id() -> Option<tempfile::TempDir> {
    use nix::sys::statvfs::{FsFlags, statvfs};
    use nix::unistd::{AccessFlags, access};
    let places = [env!("CARGO_TARGET_TMPDIR"), "/tmp", "/var/tmp", "/run"];
    places.into_iter().find_map(|place| {
        let dir = tempfile::tempdir_in(place).ok()?;
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let obeys = !statvfs(dir.path()).unwrap().flags().contains(FsFlags::ST_NOSUID);
        let alice = Identity::user("Alice", users::ALICE);
        (obeys && alice.run(|| access(dir.path(), AccessFlags::X_OK).is_ok())).then_some(dir)
    })
}
