//! Any order of writes and reads, by two users, over tasks that end and change hands meanwhile: every read is whole
//! messages that its reader may see, and who reads undisturbed gets everything.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use task_diag::access::{Account, CallerError, Reader, Sight, may_see, sight};
use task_diag::client::OwnedTask;
use task_diag::counters::Counters;
use task_diag::engine::{EngineError, Transaction};
use task_diag::protocol::{
    Descriptor, DumpStrategy, Groups, MESSAGE_LEN, MembershipHeader, Message, MessageWriter, Messages,
    Request, VmaFields, VmaStat, push_descriptor, push_membership, push_vma,
};
use task_diag::source::{
    Anchor, Budget, Gathered, Piece, Rest, Sections, Selection, Source, SourceError, TaskstatsError, Turn,
    Visit, Walk, push_section,
};
use task_diag::task::{Facts, TaskRecord};
use zerocopy::IntoBytes;

#[derive(Arbitrary, Debug)]
struct Input {
    budget: u32,
    tasks: Vec<Made>,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
struct Made {
    pid: u8,
    alices: bool,
    without_memory: bool,
    mappings: u8,
    name: u8,
    line: u16,
    missing: bool,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Write(Vec<u8>),
    Ask { groups: u8, more: u8, missing: bool, strategy: u8, pid: u8 },
    Read { size: u16, alice: bool },
    ReadToEnd { size: u16, alice: bool },
    End(u8),
    ChangeHands(u8),
}

#[derive(Clone)]
struct Task {
    record: TaskRecord,
    groups: Groups,
    mappings: Vec<u8>,
    plain_mappings: Vec<u8>,
    line: Vec<u8>,
    sections: Vec<u8>,
    missing: Groups,
}

/// The groups from 32 on that tasks have here: cut between words, cut between records, never cut.
const MORE: [Groups; 4] = [Groups::GROUPS, Groups::IO, Groups::FD, Groups::ENVIRON];

/// The longest piece of a task that cannot be cut: a mapping with statistics and the longest name.
const LONGEST_PIECE: usize = MESSAGE_LEN + 4 + 64 + 80 + 256 + 4;

impl Task {
    fn new(made: &Made) -> Task {
        let mut facts = Facts::DUMPABLE_KNOWN | Facts::DUMPABLE | Facts::SAME_USER_NS;
        facts.set(Facts::HAS_MEMORY, !made.without_memory);
        let mut record = TaskRecord { facts: facts.bits(), ..TaskRecord::default() };
        (record.base.pid, record.base.tgid) = (made.pid.into(), made.pid.into());
        let (mut mappings, mut plain_mappings) = (Vec::new(), Vec::new());
        for n in 0..made.mappings {
            let fields = VmaFields { start: n.into(), end: u64::from(n) + 1, ..VmaFields::default() };
            let name = vec![b'n'; usize::from(made.name ^ n)];
            push_vma(&mut mappings, &fields, Some(&VmaStat::default()), &name).unwrap();
            push_vma(&mut plain_mappings, &fields, None, &name).unwrap();
        }
        let mut sections = Vec::new();
        let gids = vec![7; usize::from(made.mappings)];
        push_section(&mut sections, 33, |out| push_membership(out, &MembershipHeader::default(), &gids));
        push_section(&mut sections, 35, |out| out.extend([made.name; 56]));
        push_section(&mut sections, 40, |out| {
            for fd in 0..made.mappings {
                let name = vec![b'n'; usize::from(made.name ^ fd)];
                push_descriptor(out, &Descriptor { fd: fd.into(), name: &name, ..Descriptor::default() })
                    .unwrap();
            }
        });
        push_section(&mut sections, 42, |out| out.extend((0..made.line).map(|n| n as u8)));
        let mut groups = Groups::BASE | Groups::CRED | Groups::STAT;
        groups.extend(MORE);
        if !made.without_memory {
            groups |= Groups::VMA | Groups::VMA_STAT | Groups::STATM | Groups::CMDLINE;
        }
        if made.mappings == 0 {
            groups -= Groups::VMA | Groups::VMA_STAT;
        }
        let line = (0..made.line).map(|n| n as u8).collect();
        let missing = if made.missing { Groups::STATM } else { Groups::empty() };
        let mut task = Task { record, groups, mappings, plain_mappings, line, sections, missing };
        task.give_to(made.alices);
        task
    }

    fn give_to(&mut self, alice: bool) {
        let id = if alice { ALICE } else { BOB };
        let c = &mut self.record.credentials;
        for ids in [&mut c.uid, &mut c.euid, &mut c.suid, &mut c.gid, &mut c.egid, &mut c.sgid] {
            *ids = id;
        }
    }

    fn gathered(&self, asked: Groups) -> Gathered<'_> {
        let with_statistics = asked.contains(Groups::VMA_STAT);
        let mappings = if with_statistics { &self.mappings } else { &self.plain_mappings };
        let shown = |group| asked.contains(group) && self.groups.contains(group);
        Gathered {
            record: &self.record,
            groups: self.groups & asked,
            mappings: if shown(Groups::VMA) { mappings } else { &[] },
            rest: None,
            command_line: if shown(Groups::CMDLINE) { &self.line } else { &[] },
            sections: Sections::new(&self.sections),
            missing: self.missing,
            anchor: &Anchor::Number,
        }
    }
}

const ALICE: u32 = 1001;
const BOB: u32 = 1002;

fn reader(alice: bool) -> Reader {
    let id = if alice { ALICE } else { BOB };
    Reader { euid: id, fsuid: id, fsgid: id, ..Reader::default() }
}

type Tasks = Arc<Mutex<BTreeMap<u32, Task>>>;

struct MadeUp(Tasks, Arc<Budget>, Arc<Counters>);

impl Source for MadeUp {
    fn name(&self) -> &'static str {
        "made up"
    }

    fn budget(&self) -> &Arc<Budget> {
        &self.1
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.2
    }

    fn taskstats(&self) -> Result<(), TaskstatsError> {
        Err(TaskstatsError::Unknown)
    }

    fn reader(&self, _: u32, _: u32, _: u32) -> Result<Reader, CallerError> {
        unreachable!()
    }

    fn start(&self, _: &Reader, selection: Selection, _: &[u32]) -> Result<Box<dyn Walk>, SourceError> {
        let one = selection.strategy == DumpStrategy::One;
        if one && !self.0.lock().unwrap().contains_key(&selection.pid) {
            return Err(SourceError::NoSuchTask);
        }
        let left = if one { selection.pid..selection.pid + 1 } else { 0..u32::MAX };
        Ok(Box::new(MadeUpWalk { tasks: self.0.clone(), groups: selection.groups, left }))
    }
}

struct MadeUpWalk {
    tasks: Tasks,
    groups: Groups,
    left: std::ops::Range<u32>,
}

impl Walk for MadeUpWalk {
    fn next(
        &mut self,
        reader: &Reader,
        _: usize,
        _: &Turn<'_>,
        visit: &mut dyn FnMut(&Gathered) -> Visit,
    ) -> Result<(), SourceError> {
        let tasks = self.tasks.lock().unwrap();
        for (pid, task) in tasks.range(self.left.clone()) {
            let verdict = match may_see(reader, &task.record) {
                true => visit(&task.gathered(self.groups)),
                false => Visit::Taken,
            };
            if verdict == Visit::Full {
                return Ok(());
            }
            self.left.start = pid + 1;
            if verdict == Visit::Last {
                return Ok(());
            }
        }
        self.left.start = self.left.end;
        Ok(())
    }

    fn go_on(&self, _: &Reader, _: &TaskRecord, _: &Rest) -> Result<Piece, SourceError> {
        unreachable!("no list has a rest")
    }

    fn is_finished(&self) -> bool {
        self.left.is_empty()
    }

    fn sight(&self, reader: &Reader, task: &TaskRecord, _: &Anchor) -> Sight {
        let tasks = self.tasks.lock().unwrap();
        let same = tasks.get(&task.base.pid).filter(|now| now.record == *task);
        same.map_or(Sight::Nothing, |now| sight(reader, &now.record))
    }
}

/// What has come of the request under way.
#[derive(Default)]
struct Expected {
    request: Option<Request>,
    /// Somebody else has read, or a task ended or changed hands.
    disturbed: bool,
    only_reader: Option<bool>,
    tasks: Vec<OwnedTask>,
    /// The last task goes on.
    open: bool,
    buffers_too_small: bool,
}

struct Session {
    tasks: Tasks,
    budget: Arc<Budget>,
    transaction: Transaction,
    /// A request was taken and not yet read to its end.
    pending: bool,
    expected: Expected,
}

impl Session {
    fn write(&mut self, bytes: &[u8]) {
        match self.transaction.write(Account::User(ALICE), bytes) {
            Ok(n) => {
                assert!(!self.pending && n == bytes.len() && n >= 16);
                self.pending = true;
                self.expected = Expected { request: Request::parse(bytes).ok(), ..Expected::default() };
            }
            Err(EngineError::Busy) => assert!(self.pending),
            Err(EngineError::Source(SourceError::OverBudget(Account::User(ALICE)))) => assert!(!self.pending),
            Err(e) => assert!(!self.pending && bytes.len() < 16 && e.to_errno() == 22),
        }
    }

    /// Whether there is more to read.
    fn read(&mut self, size: usize, alice: bool) -> bool {
        let mut buf = vec![0xa5; size];
        let outcome = self.transaction.read(|| Ok(reader(alice)), &mut buf);
        self.expected.disturbed |= *self.expected.only_reader.get_or_insert(alice) != alice;
        match outcome {
            Ok(0) => {
                if self.pending {
                    self.end(alice);
                }
            }
            Ok(n) => {
                assert!(self.pending);
                self.check(&buf[..n], alice);
                return true;
            }
            Err(EngineError::BufferTooSmall) => {
                assert!(self.pending && size < LONGEST_PIECE);
                self.expected.buffers_too_small = true;
                return false;
            }
            Err(EngineError::Request(_)) => assert!(self.pending && self.expected.request.is_none()),
            Err(EngineError::Source(SourceError::NoSuchTask)) => {
                assert!(self.expected.request.as_ref().unwrap().strategy == DumpStrategy::One);
            }
            Err(EngineError::Source(SourceError::OverBudget(user))) => {
                assert_eq!(user, Account::User(reader(alice).fsuid))
            }
            Err(e) => panic!("{e}"),
        }
        self.pending = false;
        assert_eq!(self.budget.taken(), 0, "nothing is kept after the end");
        false
    }

    fn check(&mut self, read: &[u8], alice: bool) {
        let seq = self.expected.request.as_ref().unwrap().seq;
        let tasks = self.tasks.lock().unwrap();
        let mut whole = 0;
        for message in Messages::new(read) {
            let message = message.expect("a well-formed message");
            whole += rewritten(&message, &read[whole..]);
            let Expected { tasks: got, open, .. } = &mut self.expected;
            assert_eq!(message.seq, seq);
            let bare = message.attributes().next().is_none();
            assert!(!(message.continues && bare));
            let may = tasks.get(&message.pid).is_some_and(|task| may_see(&reader(alice), &task.record));
            assert!(may || *open && bare && !message.continues, "not for this reader");
            if *open {
                assert_eq!(got.last().unwrap().pid, message.pid);
            } else {
                assert!(got.last().is_none_or(|last| last.pid < message.pid), "ascending");
                got.push(OwnedTask { pid: message.pid, tgid: message.tgid, ..OwnedTask::default() });
            }
            got.last_mut().unwrap().add(&message).unwrap();
            *open = message.continues;
        }
        assert_eq!(whole, read.len());
    }

    /// At the end of a dump.
    fn end(&mut self, alice: bool) {
        assert!(!self.expected.open, "the dump ended within a task");
        let Some(Request { groups, strategy, pid, .. }) = self.expected.request.clone() else { panic!() };
        if self.expected.disturbed {
            return;
        }
        let tasks = self.tasks.lock().unwrap();
        let asked = |number: &u32| strategy != DumpStrategy::One || *number == pid;
        let visible = tasks.iter().filter(|(n, task)| asked(n) && may_see(&reader(alice), &task.record));
        let wanted: Vec<&Task> = visible.map(|(_, task)| task).collect();
        assert_eq!(wanted.len(), self.expected.tasks.len());
        for (got, want) in self.expected.tasks.iter().zip(wanted) {
            let want = want.gathered(groups);
            assert_eq!(got.pid, want.record.base.pid);
            assert_eq!(got.base.is_some(), groups.contains(Groups::BASE));
            assert_eq!(got.statm.is_some(), want.groups.contains(Groups::STATM));
            let line = want.groups.contains(Groups::CMDLINE).then_some(want.command_line);
            assert_eq!(got.command_line.as_deref(), line);
            let mut mappings = Vec::new();
            for vma in &got.mappings {
                let fields = VmaFields { start: vma.start, end: vma.end, ..VmaFields::default() };
                push_vma(&mut mappings, &fields, vma.stat.as_ref(), &vma.name).unwrap();
            }
            assert!(mappings == want.mappings);
            for (id, payload) in want.sections.iter() {
                let got = match id {
                    35 => got.io.as_ref().map(IntoBytes::as_bytes),
                    _ => got.payloads.get(&(id as u16)).map(Vec::as_slice),
                };
                assert_eq!(got, groups.contains(Groups::from_bits_retain(1 << id)).then_some(payload));
            }
        }
    }
}

/// The length of the message at the beginning of `bytes`, which are what writing it again gives.
fn rewritten(message: &Message<'_>, bytes: &[u8]) -> usize {
    let mut buf = vec![0x5a; bytes.len()];
    let mut writer = MessageWriter::begin(&mut buf, message.seq, message.pid, message.tgid).unwrap();
    for attribute in message.attributes() {
        let attribute = attribute.expect("a well-formed attribute");
        writer.attribute(attribute.id(), attribute.payload()).unwrap();
    }
    let len = writer.finish(message.continues);
    assert!(buf[..len] == bytes[..len]);
    len
}

fuzz_target!(|input: Input| {
    let tasks: BTreeMap<u32, Task> =
        input.tasks.iter().take(20).map(|made| (made.pid.into(), Task::new(made))).collect();
    let tasks = Arc::new(Mutex::new(tasks));
    let budget = Arc::new(Budget::new(input.budget as usize, input.budget as usize));
    let transaction = Transaction::new(Arc::new(MadeUp(tasks.clone(), budget.clone(), Arc::default())));
    let mut session = Session { tasks, budget, transaction, pending: false, expected: Expected::default() };
    for step in input.steps.iter().take(100) {
        match step {
            Step::Write(bytes) => session.write(bytes),
            Step::Ask { groups, more, missing, strategy, pid } => {
                let mut groups = Groups::from_bits_retain(u64::from(*groups));
                groups.set(Groups::MISSING, *missing);
                MORE.iter().enumerate().for_each(|(n, group)| groups.set(*group, more >> n & 1 != 0));
                let strategy = if strategy % 2 == 0 { DumpStrategy::All } else { DumpStrategy::One };
                let request = Request { seq: 7, groups, strategy, pid: (*pid).into(), pids: Vec::new() };
                session.write(&request.to_bytes());
            }
            Step::Read { size, alice } => drop(session.read((*size).into(), *alice)),
            Step::ReadToEnd { size, alice } => while session.read((*size).into(), *alice) {},
            Step::End(pid) => {
                session.expected.disturbed |= session.tasks.lock().unwrap().remove(&(*pid).into()).is_some();
            }
            Step::ChangeHands(pid) => {
                if let Some(task) = session.tasks.lock().unwrap().get_mut(&(*pid).into()) {
                    task.give_to(task.record.credentials.uid != ALICE);
                    session.expected.disturbed = true;
                }
            }
        }
    }
});
