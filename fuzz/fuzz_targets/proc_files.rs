//! Any bytes as a file of /proc: reading ends without a panic, lists of mappings are well-formed, and what a line means
//! does not depend on its columns.

#![no_main]

use libfuzzer_sys::fuzz_target;
use task_diag::proc_files::{NsNumbers, StatLine, Status, parse_maps, parse_smaps};
use task_diag::protocol::VmaList;

type Parser =
    fn(&[u8], task_diag::proc_files::TrueName, &mut Vec<u8>) -> Result<(), task_diag::protocol::EncodeError>;

/// The list that comes of `text`, every record of which is whole, and no more of them than lines.
fn list(parse: Parser, text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let parsed = parse(text, &|start, _| (start & 1 == 0).then(|| b"a true\nname".to_vec()), &mut out);
    let records = VmaList::new(&out).map(|vma| vma.expect("a record that was pushed")).count();
    assert!(records <= text.split(|c| *c == b'\n').count());
    if parsed.is_err() {
        out.clear();
    }
    out
}

/// The same lines with one more blank after the colon, which no kernel prints: read in the slow way.
fn out_of_columns(text: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    for line in text.split_inclusive(|c| *c == b'\n') {
        match line.iter().position(|c| *c == b':') {
            Some(colon) if line[0].is_ascii_uppercase() => {
                lines.extend_from_slice(&line[..=colon]);
                lines.push(b' ');
                lines.extend_from_slice(&line[colon + 1..]);
            }
            _ => lines.extend_from_slice(line),
        }
    }
    lines
}

fuzz_target!(|input: &[u8]| {
    let Some((which, text)) = input.split_first() else { return };
    match which % 4 {
        0 => {
            if let Some(status) = Status::parse(text) {
                assert!(status.base.pid != 0 && status.base.comm[15] == 0);
            }
            for depth in 0..3 {
                let numbers = NsNumbers::parse(text, depth);
                assert!(numbers.is_none_or(|numbers| numbers.pid != 0));
            }
        }
        1 => {
            if let Some(line) = StatLine::parse(text) {
                // What stands in the parentheses changes nothing.
                let close = text.iter().rposition(|c| *c == b')').expect("a name");
                let renamed = [b"1 (a) R 1) ".as_slice(), &text[close..]].concat();
                assert_eq!(StatLine::parse(&renamed), Some(line));
            }
        }
        2 => drop(list(parse_maps, text)),
        _ => assert!(list(parse_smaps, text) == list(parse_smaps, &out_of_columns(text))),
    }
});
