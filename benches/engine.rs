//! What a task costs in user space: from its record to message bytes, and back to typed groups.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use task_diag::access::{Account, CallerError, Reader, Sight};
use task_diag::counters::Counters;
use task_diag::engine::Transaction;
use task_diag::protocol::{Attribute, Groups, Messages, Request};
use task_diag::source::{
    Anchor, Budget, Gathered, Piece, Rest, Sections, Selection, Source, SourceError, TaskstatsError, Turn,
    Visit, Walk,
};
use task_diag::task::{Facts, TaskRecord};

const TASKS: usize = 2_000;
const BUFFER: usize = 1024 * 1024;

/// Records that stand in memory already.
struct Prepared(Arc<Vec<TaskRecord>>, Arc<Budget>, Arc<Counters>);

struct PreparedWalk {
    records: Arc<Vec<TaskRecord>>,
    groups: Groups,
    next: usize,
}

impl Source for Prepared {
    fn budget(&self) -> &Arc<Budget> {
        &self.1
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.2
    }

    fn name(&self) -> &'static str {
        "prepared"
    }

    fn taskstats(&self) -> Result<(), TaskstatsError> {
        Err(TaskstatsError::Unknown)
    }

    fn reader(&self, _: u32, _: u32, _: u32) -> Result<Reader, CallerError> {
        Ok(Reader::default())
    }

    fn start(&self, _: &Reader, selection: Selection, _: &[u32]) -> Result<Box<dyn Walk>, SourceError> {
        Ok(Box::new(PreparedWalk { records: self.0.clone(), groups: selection.groups, next: 0 }))
    }
}

impl Walk for PreparedWalk {
    fn next(
        &mut self,
        reader: &Reader,
        _room: usize,
        _turn: &Turn<'_>,
        visit: &mut dyn FnMut(&Gathered) -> Visit,
    ) -> Result<(), SourceError> {
        while let Some(record) = self.records.get(self.next) {
            if task_diag::access::may_see(reader, record) {
                let task = Gathered {
                    record,
                    groups: self.groups,
                    mappings: &[],
                    rest: None,
                    command_line: &[],
                    sections: Sections::default(),
                    missing: Groups::empty(),
                    anchor: &Anchor::Number,
                };
                if visit(&task) == Visit::Full {
                    return Ok(());
                }
            }
            self.next += 1;
        }
        Ok(())
    }

    fn go_on(&self, _: &Reader, _: &TaskRecord, _: &Rest) -> Result<Piece, SourceError> {
        Ok(Piece::default())
    }

    fn is_finished(&self) -> bool {
        self.next == self.records.len()
    }

    fn sight(&self, _: &Reader, _: &TaskRecord, _: &Anchor) -> Sight {
        Sight::Full
    }
}

fn transaction() -> Transaction {
    let facts = Facts::PTRACE_OVER_TASK | Facts::PTRACE_OVER_MEMORY | Facts::HAS_MEMORY;
    let record = |pid| {
        let mut record = TaskRecord { facts: facts.bits(), ..TaskRecord::default() };
        (record.base.pid, record.base.tgid) = (pid, pid);
        record
    };
    let records = Arc::new((1..=TASKS as u32).map(record).collect());
    Transaction::new(Arc::new(Prepared(records, Arc::new(Budget::new(0, 0)), Arc::default())))
}

fn dump(transaction: &Transaction, groups: Groups, buffer: &mut [u8]) -> usize {
    transaction.write(Account::default(), &Request { groups, ..Request::default() }.to_bytes()).unwrap();
    let n = transaction.read(|| Ok(Reader::default()), buffer).unwrap();
    assert_eq!(transaction.read(|| Ok(Reader::default()), &mut []).unwrap(), 0);
    n
}

fn engine(c: &mut Criterion) {
    let transaction = transaction();
    let mut buffer = vec![0; BUFFER];
    let light = Groups::BASE | Groups::CRED | Groups::STAT | Groups::STATM;
    for (name, groups) in [("BASE", Groups::BASE), ("BASE+CRED+STAT+STATM", light)] {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(TASKS as u64));
        group.bench_function("encode", |b| b.iter(|| dump(&transaction, black_box(groups), &mut buffer)));
        let len = dump(&transaction, groups, &mut buffer);
        group.bench_function("decode", |b| {
            b.iter(|| {
                let mut pids = 0u64;
                for message in Messages::new(black_box(&buffer[..len])) {
                    for attribute in message.unwrap().attributes() {
                        if let Attribute::Base(base) = attribute.unwrap() {
                            pids += u64::from(base.pid);
                        }
                    }
                }
                pids
            })
        });
    }
}

criterion_group!(benches, engine);
criterion_main!(benches);
