//! TASKSTATS: what the kernel tells whoever asks it by generic netlink, task by task, comes through the mount byte for byte.

mod common;

use common::daemon::{Daemon, program};
use common::handle::{Handle, one, request};
use common::identity::Identity;
use common::proc::{self, Status};
use common::sources::{Source, sources};
use common::zoo::farm::Farm;
use common::zoo::users::{self, ALICE, BOB};
use common::zoo::{self, Animal, lives};
use common::{needs, wait};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType};
use nix::sys::socket::{bind, recv, send, socket};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use task_diag::protocol::{DumpStrategy, Groups, Request};

const TASKSTATS: u16 = 32;
const BOTH: Groups = Groups::BASE.union(Groups::TASKSTATS);
const FILE: &str = "TASK_DIAG_FILE";

/// `TASKSTATS_CMD_ATTR_PID` and `TASKSTATS_CMD_ATTR_TGID`.
const PID: u16 = 1;
const TGID: u16 = 2;

/// The kernel itself, asked one question after the other.
struct Kernel {
    socket: OwnedFd,
    family: u16,
}

impl Kernel {
    /// `None` where it will not tell; says so.
    fn new() -> Option<Kernel> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket =
            socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkGeneric).unwrap();
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).unwrap();
        let mut kernel = Kernel { socket, family: 16 };
        let found = kernel.asked(3, 2, b"TASKSTATS\0\0\0").and_then(|answer| attribute(&answer, 1));
        let family = found.map(|id| u16::from_ne_bytes(id.try_into().unwrap()));
        kernel.family = family.unwrap_or_default();
        let answers = family.is_some() && kernel.tells(TGID, std::process::id()).is_some();
        (answers || needs::missing("TASKSTATS of the kernel")).then_some(kernel)
    }

    /// The statistics of a task, or of a process.
    fn tells(&self, attribute_of: u16, id: u32) -> Option<Vec<u8>> {
        let answer = self.asked(1, attribute_of, &id.to_ne_bytes())?;
        let within = attribute(&answer, if attribute_of == PID { 4 } else { 5 })?;
        Some(attribute(&within, 3).expect("statistics"))
    }

    /// The attributes of an answer; `None` for an error.
    fn asked(&self, command: u8, attribute: u16, value: &[u8]) -> Option<Vec<u8>> {
        let mut message = vec![0; 24];
        message[..4].copy_from_slice(&(24 + value.len() as u32).to_ne_bytes());
        message[4..6].copy_from_slice(&self.family.to_ne_bytes());
        message[6] = 1;
        message[16] = command;
        message[20..22].copy_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        message[22..24].copy_from_slice(&attribute.to_ne_bytes());
        message.extend(value);
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty()).unwrap();
        let mut answer = vec![0; 65536];
        let n = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty()).unwrap();
        (answer[4] != 2).then(|| answer[20..n].to_vec())
    }
}

/// The first attribute of that number.
fn attribute(mut attributes: &[u8], number: u16) -> Option<Vec<u8>> {
    let word = |bytes: &[u8]| u16::from_ne_bytes(bytes.try_into().unwrap());
    while attributes.len() >= 4 {
        let len = usize::from(word(&attributes[..2]));
        if word(&attributes[2..4]) & 0x3fff == number {
            return Some(attributes[4..len].to_vec());
        }
        attributes = attributes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

/// Where the fields of `struct taskstats` stand; version 15 had them elsewhere.
struct Places {
    uid: usize,
    begin: usize,
    elapsed: usize,
    begin64: usize,
    tgid: usize,
    group_elapsed: usize,
}

fn places(stats: &[u8]) -> Places {
    match u16::from_ne_bytes([stats[0], stats[1]]) {
        15 => Places { uid: 168, begin: 184, elapsed: 192, begin64: 424, tgid: 464, group_elapsed: 472 },
        _ => Places { uid: 120, begin: 136, elapsed: 144, begin64: 344, tgid: 368, group_elapsed: 376 },
    }
}

/// The statistics without the fields that move while a task stands still.
fn still(stats: &[u8]) -> Vec<u8> {
    let Places { begin, elapsed, begin64, group_elapsed, .. } = places(stats);
    let mut still = stats.to_vec();
    for (at, len) in [(begin, 4), (elapsed, 8), (begin64, 8), (group_elapsed, 8)] {
        if let Some(field) = still.get_mut(at..at + len) {
            field.fill(0);
        }
    }
    still
}

fn wide(stats: &[u8], at: usize) -> u64 {
    stats.get(at..at + 8).map_or(0, |bytes| u64::from_ne_bytes(bytes.try_into().unwrap()))
}

fn ids(stats: &[u8]) -> [u32; 5] {
    let Places { uid, tgid, .. } = places(stats);
    [uid, uid + 4, uid + 8, uid + 12, tgid]
        .map(|at| stats.get(at..at + 4).map_or(0, |bytes| u32::from_ne_bytes(bytes.try_into().unwrap())))
}

/// What an answer holds of each task: its thread-group id and its TASKSTATS.
fn dump(file: &Handle, request: &Request, buffer: usize) -> BTreeMap<u32, (u32, Option<Vec<u8>>)> {
    file.request(request);
    let mut found = BTreeMap::new();
    for bytes in file.read_to_end(buffer).unwrap() {
        let mut at = 0;
        while at < bytes.len() {
            let word = |from: usize| u32::from_ne_bytes(bytes[at + from..at + from + 4].try_into().unwrap());
            let (len, pid, tgid) = (word(0) as usize, word(16), word(20));
            let stats = attribute(&bytes[at + 28..at + len], TASKSTATS);
            let (_, known) = found.entry(pid).or_insert((tgid, None));
            assert!(known.is_none() || stats.is_none(), "task {pid} has statistics once");
            *known = known.take().or(stats);
            at += len.next_multiple_of(4);
        }
    }
    found
}

/// That the statistics shown are what the kernel told before and after.
#[track_caller]
fn equal(what: &str, shown: Option<&Vec<u8>>, before: &[u8], after: &[u8]) {
    let shown = shown.unwrap_or_else(|| panic!("{what} has none"));
    assert_eq!(still(before), still(after), "{what} stands still");
    assert_eq!(still(shown), still(before), "{what}");
    let Places { begin, elapsed, begin64, group_elapsed, .. } = places(shown);
    for at in [elapsed, group_elapsed] {
        let range = wide(before, at)..=wide(after, at);
        assert!(range.contains(&wide(shown, at)), "{what}: {} in {range:?}", wide(shown, at));
    }
    // Reckoned from the clock and the time elapsed, in whole seconds.
    assert!(wide(shown, begin64).abs_diff(wide(before, begin64)) <= 1, "{what}");
    assert_eq!(shown[begin..begin + 4], wide(shown, begin64).to_ne_bytes()[..4], "{what}");
}

fn told(kernel: &Kernel, attribute: u16, ids: &[u32]) -> Vec<Vec<u8>> {
    ids.iter().map(|id| kernel.tells(attribute, *id).unwrap_or_else(|| panic!("task {id}"))).collect()
}

#[test]
fn processes_and_threads_are_as_the_kernel_tells() {
    if !needs::root_and_fuse() {
        return;
    }
    let Some(kernel) = Kernel::new() else { return };
    let mut animals = zoo::all();
    animals.push(lives::threads());
    let processes: Vec<u32> = animals.iter().map(|animal| animal.pid).collect();
    let threads: Vec<u32> = processes.iter().flat_map(|pid| proc::threads(*pid)).collect();
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        for buffer in [160 * 1024, 3000] {
            for (strategy, attribute, ids) in
                [(DumpStrategy::All, TGID, &processes), (DumpStrategy::AllThreads, PID, &threads)]
            {
                let before = told(&kernel, attribute, ids);
                let shown = dump(&file, &request(strategy, 0, BOTH), buffer);
                let after = told(&kernel, attribute, ids);
                for ((id, before), after) in ids.iter().zip(&before).zip(&after) {
                    let what = format!("task {id} by {strategy:?} from {}", source.name);
                    equal(&what, shown[id].1.as_ref(), before, after);
                }
            }
        }
        for animal in &animals {
            one_by_one(&kernel, &file, animal);
        }
    }
}

fn one_by_one(kernel: &Kernel, file: &Handle, animal: &Animal) {
    let threads = proc::threads(animal.pid);
    let before = told(kernel, PID, &threads);
    let shown = dump(file, &request(DumpStrategy::Thread, animal.pid, BOTH), 4096);
    let after = told(kernel, PID, &threads);
    assert!(shown.keys().eq(&threads), "{}", animal.name);
    for ((tid, before), after) in threads.iter().zip(&before).zip(&after) {
        equal(animal.name, shown[tid].1.as_ref(), before, after);
        assert_eq!(
            ids(before)[2..],
            [*tid, Status::of(&tid.to_string()).unwrap().number("PPid") as u32, animal.pid]
        );
    }
    // A thread that is asked for by ONE has the statistics of its process.
    let before = kernel.tells(TGID, animal.pid).unwrap();
    for tid in threads {
        let shown = dump(file, &one(tid, BOTH), 4096);
        equal(animal.name, shown[&tid].1.as_ref(), &before, &kernel.tells(TGID, animal.pid).unwrap());
    }
}

#[test]
fn many_at_once() {
    if !needs::root_and_fuse() {
        return;
    }
    let Some(kernel) = Kernel::new() else { return };
    let farm = Farm::new(300, 2);
    let leaders = farm.leaders();
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        let before = told(&kernel, TGID, &leaders);
        let shown = dump(&file, &request(DumpStrategy::All, 0, Groups::TASKSTATS), 1 << 20);
        let after = told(&kernel, TGID, &leaders);
        for ((id, before), after) in leaders.iter().zip(&before).zip(&after) {
            equal(&format!("task {id} from {}", source.name), shown[id].1.as_ref(), before, after);
        }
        // Several readers take turns at the sockets.
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let file = Handle::open(daemon.path());
                    let shown =
                        dump(&file, &request(DumpStrategy::AllThreads, 0, Groups::TASKSTATS), 160 * 1024);
                    for tid in farm.in_order().concat() {
                        let stats = shown[&tid].1.as_ref().expect("statistics");
                        assert_eq!([ids(stats)[2], ids(stats)[4]], [tid, shown[&tid].0]);
                    }
                });
            }
        });
    }
}

#[test]
fn who_may_not_look_gets_none() {
    if !needs::root_and_fuse() || Kernel::new().is_none() {
        return;
    }
    let own = users::of("Alice's", Identity::user("", ALICE), true);
    let others =
        [users::of("Bob's", Identity::user("", BOB), true), users::alices_hidden(), lives::sleeper()];
    let alice = Identity::user("Alice", ALICE);
    for source in sources() {
        for (visibility, shown) in [("ptrace", false), ("proc", true)] {
            let daemon = Daemon::start_with(source, &["--hidepid", visibility]);
            let look = |strategy, pid| {
                alice.run(|| dump(&Handle::open(daemon.path()), &request(strategy, pid, BOTH), 160 * 1024))
            };
            let all = look(DumpStrategy::All, 0);
            assert!(all[&own.pid].1.is_some(), "{}", source.name);
            for other in &others {
                assert_eq!(all.contains_key(&other.pid), shown, "{} from {}", other.name, source.name);
                let found =
                    [all.clone(), look(DumpStrategy::AllThreads, 0), look(DumpStrategy::One, other.pid)];
                let stats = found.iter().find_map(|found| found.get(&other.pid)?.1.as_ref());
                assert_eq!(stats, None, "{} from {}", other.name, source.name);
            }
        }
    }
}

/// Commands that run another one in namespaces below this one's.
const BELOW: [&str; 3] = [
    "unshare --pid --fork --mount-proc",
    "unshare --pid --fork --mount-proc unshare --pid --fork --mount-proc",
    "setpriv --reuid=64001 --regid=64001 --clear-groups --inh-caps=-all unshare --user --map-root-user --pid --fork --mount-proc",
];

#[test]
fn readers_below_see_their_own_numbers() {
    if !needs::root_and_fuse() || Kernel::new().is_none() {
        return;
    }
    for source in sources() {
        let daemon = Daemon::start(source);
        for prefix in BELOW {
            let mut words = prefix.split(' ');
            let mut look = Command::new(words.next().unwrap());
            look.args(words).arg(std::env::current_exe().unwrap());
            look.args(["--exact", "look_from_below", "--ignored", "--nocapture"]).env(FILE, daemon.path());
            let output = look.output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            let complaint = String::from_utf8_lossy(&output.stderr);
            let name = source.name;
            assert!(
                output.status.success() && text.contains("1 passed"),
                "{prefix}, {name}: {text}{complaint}"
            );
        }
    }
}

/// Run by the test above, in each of its places.
#[test]
#[ignore = "only in the place that another test makes for it"]
fn look_from_below() {
    let file = Handle::open(std::env::var_os(FILE).expect("run by another test"));
    let own = [lives::sleeper(), lives::threads(), lives::zombie()];
    let shown = dump(&file, &request(DumpStrategy::AllThreads, 0, BOTH), 160 * 1024);
    // Of others than the reader itself not every source can know whether it may see them.
    assert!(shown.contains_key(&std::process::id()));
    for (tid, (tgid, stats)) in &shown {
        let Some(status) = Status::of(&format!("{tgid}/task/{tid}")) else { continue };
        let Some(stats) = stats else {
            // Files of a task without memory are root's, and the root of a namespace below may not open them.
            assert!(status.bytes("VmSize").is_none(), "task {tid} has none");
            continue;
        };
        let number = |key| status.number(key) as u32;
        let [uid, gid] = ["Uid", "Gid"].map(|key| status.ids(key)[0]);
        assert_eq!(ids(stats), [uid, gid, *tid, number("PPid"), number("Tgid")], "task {tid}");
    }
    // Of processes the kernel tells no ids, and none are made up.
    let processes = dump(&file, &request(DumpStrategy::All, 0, BOTH), 160 * 1024);
    for animal in own.iter().filter(|animal| shown.contains_key(&animal.pid)) {
        match &processes[&animal.pid].1 {
            Some(stats) => assert_eq!(ids(stats), [0; 5], "{}", animal.name),
            None => assert_eq!(animal.state, b'Z', "{}", animal.name),
        }
    }
}

fn capabilities(pid: u32) -> u64 {
    let text = String::from_utf8(proc::read(&format!("{pid}/status")).unwrap()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    u64::from_str_radix(line, 16).unwrap()
}

fn offers(dir: &Path) -> bool {
    let info = std::fs::read_to_string(dir.join("info")).unwrap();
    let groups = info.lines().find_map(|line| line.strip_prefix("groups: ")).unwrap();
    groups.split(' ').any(|group| group == "TASKSTATS=32")
}

const NET_ADMIN: u32 = 12;

#[test]
fn without_the_capability_it_is_not_offered() {
    if !needs::root_and_fuse() || Kernel::new().is_none() {
        return;
    }
    for source in sources() {
        let daemon = Daemon::start(source);
        assert!(offers(&daemon.dir()));
        assert_ne!(capabilities(daemon.server()) & 1 << NET_ADMIN, 0);
        assert!(!daemon.log().contains("no TASKSTATS"), "{}", daemon.log());
        drop(daemon);
        lacking(source, &["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"], "CAP_NET_ADMIN");
    }
}

/// A daemon that was started by `prefix` says why it does not offer TASKSTATS, and is the same otherwise.
fn lacking(source: &Source, prefix: &[&str], why: &str) {
    let place = tempfile::TempDir::new().unwrap();
    let (dir, log) = (place.path().join("mnt"), place.path().join("log"));
    let mut command = Command::new(prefix[0]);
    command.args(&prefix[1..]).arg(program().get_program()).arg("mount").arg(&dir);
    command
        .args(["--source", source.name])
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap());
    let mut daemon = command.spawn().unwrap();
    let said = || std::fs::read_to_string(&log).unwrap();
    wait::until("the daemon serves", || said().contains("serving"));
    let lines: Vec<String> =
        said().lines().filter(|line| line.contains("TASKSTATS")).map(String::from).collect();
    assert!(matches!(&lines[..], [line] if line.contains(why)), "{lines:?}");
    assert!(!offers(&dir));
    let children = proc::read(&format!("{0}/task/{0}/children", daemon.id())).unwrap();
    let child = proc::number(&children).expect("one child") as u32;
    assert_eq!(capabilities(child) & 1 << NET_ADMIN, 0);
    let shown = dump(&Handle::open(dir.join("task_diag")), &request(DumpStrategy::All, 0, BOTH), 160 * 1024);
    assert!(shown.contains_key(&std::process::id()));
    assert!(shown.values().all(|(_, stats)| stats.is_none()));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.id() as i32), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    assert!(daemon.wait().unwrap().success());
}
