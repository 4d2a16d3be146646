//! The files of /proc, read as plainly as can be, and with nothing of the library: the measure of its answers.

use std::collections::HashMap;
use std::fs;

/// A file below /proc; `None` where its task went.
pub fn read(path: &str) -> Option<Vec<u8>> {
    fs::read(format!("/proc/{path}")).ok()
}

/// The number that is all of `text`.
pub fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// Words 3 and up of a `stat` file, and the name in its parentheses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    pub comm: Vec<u8>,
    words: Vec<Vec<u8>>,
}

impl Stat {
    /// `path` is `PID` or `PID/task/TID`.
    pub fn of(path: &str) -> Option<Stat> {
        let text = read(&format!("{path}/stat"))?;
        let open = text.iter().position(|c| *c == b'(')?;
        let close = text.iter().rposition(|c| *c == b')')?;
        let words = text.get(close + 2..)?.split(|c| *c == b' ').map(<[u8]>::to_vec).collect();
        Some(Stat { comm: text[open + 1..close].to_vec(), words })
    }

    /// The state's letter.
    pub fn state(&self) -> u8 {
        self.words[0][0]
    }

    /// The field that proc(5) gives this number, from 4 up.
    pub fn field(&self, number_in_manual: usize) -> u64 {
        let word = &self.words[number_in_manual - 3];
        number(word).unwrap_or_else(|| panic!("field {number_in_manual}: {word:?}"))
    }

    /// PF_KTHREAD
    pub fn is_kernel_thread(&self) -> bool {
        self.field(9) & 0x20_0000 != 0
    }

    /// When it began, in clock ticks since boot.
    pub fn start(&self) -> u64 {
        self.field(22)
    }
}

/// The lines of a `status` file.
#[derive(Clone, Debug)]
pub struct Status(HashMap<Vec<u8>, Vec<u8>>);

impl Status {
    /// `path` is `PID` or `PID/task/TID`.
    pub fn of(path: &str) -> Option<Status> {
        let text = read(&format!("{path}/status"))?;
        let lines = text.split(|c| *c == b'\n').filter_map(|line| {
            let colon = line.iter().position(|c| *c == b':')?;
            Some((line[..colon].to_vec(), line[colon + 1..].trim_ascii().to_vec()))
        });
        Some(Status(lines.collect()))
    }

    fn line(&self, key: &str) -> Option<&[u8]> {
        self.0.get(key.as_bytes()).map(Vec::as_slice)
    }

    /// A number that every task has.
    pub fn number(&self, key: &str) -> u64 {
        number(self.line(key).unwrap()).unwrap()
    }

    /// A size, in bytes.
    pub fn bytes(&self, key: &str) -> Option<u64> {
        Some(number(self.line(key)?.strip_suffix(b"kB")?)? * 1024)
    }

    /// Four ids.
    pub fn ids(&self, key: &str) -> [u32; 4] {
        let words = self.line(key).unwrap().split(|c| *c == b'\t').map(|word| number(word).unwrap() as u32);
        words.collect::<Vec<_>>().try_into().unwrap()
    }

    /// A set of capabilities.
    pub fn caps(&self, key: &str) -> u64 {
        u64::from_str_radix(std::str::from_utf8(self.line(key).unwrap()).unwrap(), 16).unwrap()
    }
}

/// A line of `maps` or `smaps`, with what follows it in `smaps`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    pub start: u64,
    pub end: u64,
    pub permissions: [u8; 4],
    pub pgoff: u64,
    pub device: (u32, u32),
    pub inode: u64,
    /// As printed.
    pub name: Vec<u8>,
    /// Bytes by name, from `smaps`.
    pub sizes: HashMap<String, u64>,
    /// The two-letter words of `VmFlags`, from `smaps`.
    pub flags: Vec<String>,
}

/// The mappings in a `maps` or `smaps` file, without the gate page, which is no process' own.
pub fn mappings(path: &str) -> Option<Vec<Mapping>> {
    let text = read(path)?;
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in text.split(|c| *c == b'\n').filter(|line| !line.is_empty()) {
        if !line[0].is_ascii_uppercase() {
            mappings.push(mapping(line));
            continue;
        }
        let colon = line.iter().position(|c| *c == b':').unwrap();
        let (key, value) = (String::from_utf8_lossy(&line[..colon]), line[colon + 1..].trim_ascii());
        let mapping = mappings.last_mut().unwrap();
        if key == "VmFlags" {
            let words = String::from_utf8_lossy(value);
            mapping.flags = words.split_whitespace().map(str::to_string).collect();
        } else if let Some(kilobytes) = value.strip_suffix(b"kB").and_then(number) {
            mapping.sizes.insert(key.into_owned(), kilobytes * 1024);
        }
    }
    mappings.retain(|mapping| mapping.name != b"[vsyscall]");
    Some(mappings)
}

fn mapping(line: &[u8]) -> Mapping {
    let mut words = line.splitn(6, |c| *c == b' ');
    let mut word = || words.next().unwrap();
    let hex = |text: &[u8]| u64::from_str_radix(std::str::from_utf8(text).unwrap(), 16).unwrap();
    let pair = |text: &[u8], mark: u8| {
        let at = text.iter().position(|c| *c == mark).unwrap();
        (hex(&text[..at]), hex(&text[at + 1..]))
    };
    let (start, end) = pair(word(), b'-');
    let permissions = word().try_into().unwrap();
    let pgoff = hex(word());
    let (major, minor) = pair(word(), b':');
    let inode = number(word()).unwrap();
    let name = word();
    let skip = name.iter().take_while(|c| **c == b' ').count();
    Mapping {
        start,
        end,
        permissions,
        pgoff,
        device: (major as u32, minor as u32),
        inode,
        name: name[skip..].to_vec(),
        ..Mapping::default()
    }
}

/// The letter of a task's state.
pub fn state(pid: u32) -> Option<u8> {
    Stat::of(&pid.to_string()).map(|stat| stat.state())
}

fn ids(path: &str) -> Vec<u32> {
    let Ok(dir) = fs::read_dir(path) else { return Vec::new() };
    dir.filter_map(|entry| number(entry.ok()?.file_name().as_encoded_bytes()).map(|n| n as u32)).collect()
}

/// All processes, ascending.
pub fn processes() -> Vec<u32> {
    let mut pids = ids("/proc");
    pids.sort_unstable();
    pids
}

/// The threads of a process, in order of creation.
pub fn threads(pid: u32) -> Vec<u32> {
    ids(&format!("/proc/{pid}/task"))
}

/// Bytes of a page.
pub fn page_size() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).unwrap().unwrap() as u64
}
