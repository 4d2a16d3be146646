//! Bytes as text that cannot play tricks on a terminal.

use regex::Regex;
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};
use std::io::{self, Write};
use std::sync::LazyLock;

/// What a terminal may not show as what it is. Where the locale is not said to be UTF-8, all but ASCII: there the bytes of a
/// letter can be control characters.
static HIDDEN: LazyLock<Regex> =
    LazyLock::new(|| if is_utf8(|name| std::env::var(name).ok()) { invisible() } else { regex("[^ -~]") });

/// What nobody would see, by Unicode's own properties: control and format characters, private and unassigned ones,
/// separators of lines and every blank but the usual one, what is ignored where it is not known; and the few symbols and
/// letters that are blank.
fn invisible() -> Regex {
    regex(r"[[\p{C}\p{Z}\p{Default_Ignorable_Code_Point}\u{2800}\u{13441}\u{13442}\u{16fe4}\u{1d159}]--[ ]]")
}

fn regex(class: &str) -> Regex {
    Regex::new(class).expect("a class of characters")
}

/// Whether the variables of the environment name a locale whose text is UTF-8; see locale(7).
fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| variable(name).filter(|value| !value.is_empty()));
    set.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

fn is_plain(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Appends `bytes`: what would not be seen as `\n`, `\u{1b}` and the like; bytes that are no UTF-8 as `\xff`. Backslashes
/// stay as they are.
pub fn push_printable(text: &mut String, bytes: &[u8]) {
    if is_plain(bytes) {
        // Nothing to escape, as nearly always.
        text.push_str(str::from_utf8(bytes).unwrap_or_default());
    } else {
        push_escaped(text, bytes, &HIDDEN);
    }
}

fn push_escaped(text: &mut String, bytes: &[u8], hidden: &Regex) {
    for chunk in bytes.utf8_chunks() {
        let mut rest = 0;
        for hidden in hidden.find_iter(chunk.valid()) {
            text.push_str(&chunk.valid()[rest..hidden.start()]);
            text.extend(hidden.as_str().chars().flat_map(char::escape_default));
            rest = hidden.end();
        }
        text.push_str(&chunk.valid()[rest..]);
        chunk.invalid().iter().for_each(|byte| text.extend(byte.escape_ascii().map(char::from)));
    }
}

/// As [`push_printable`].
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    push_printable(&mut text, bytes);
    text
}

/// Writes `value` in one line. What would not be seen is escaped as JSON escapes it, so that a parser gives it back.
pub fn write_json(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    write_escaped(out, value, &HIDDEN)
}

fn write_escaped(out: &mut dyn Write, value: &Value, hidden: &Regex) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Escaping { hidden })).map_err(io::Error::from)
}

struct Escaping<'a> {
    hidden: &'a Regex,
}

impl Formatter for Escaping<'_> {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        if is_plain(fragment.as_bytes()) {
            return out.write_all(fragment.as_bytes());
        }
        let (bytes, mut rest) = (fragment.as_bytes(), 0);
        for hidden in self.hidden.find_iter(fragment) {
            out.write_all(&bytes[rest..hidden.start()])?;
            hidden.as_str().encode_utf16().try_for_each(|unit| write!(out, "\\u{unit:04x}"))?;
            rest = hidden.end();
        }
        out.write_all(&bytes[rest..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8], hidden: &Regex) -> String {
        let mut text = String::new();
        push_escaped(&mut text, bytes, hidden);
        text
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let printable = |bytes: &[u8]| shown(bytes, &invisible());
        assert_eq!(printable(b"plain \\ text"), "plain \\ text");
        assert_eq!(printable(b"a\x1b[31m\n\x07\x7f"), "a\\u{1b}[31m\\n\\u{7}\\u{7f}");
        assert_eq!(printable(b"\xff\xc3(\xc3\xa9"), "\\xff\\xc3(\u{e9}");
        assert_eq!(printable("a\u{202e}b\u{9b}c\u{200b}".as_bytes()), "a\\u{202e}b\\u{9b}c\\u{200b}");
    }

    /// One of each kind: fillers, tags, annotations, selectors of variants, joiners, blanks, private and unassigned ones.
    const UNSEEN: &str = "\u{3164}\u{115f}\u{1160}\u{ffa0}\u{e0041}\u{e0001}\u{fffa}\u{180e}\u{180b}\u{34f}\u{17b4}\u{fe0f}\u{e0100}\
        \u{ad}\u{61c}\u{600}\u{200d}\u{2028}\u{2066}\u{206a}\u{feff}\u{1d173}\u{1bca0}\u{a0}\u{2003}\u{3000}\u{2800}\u{e000}\u{f0000}\
        \u{378}\u{fff0}\u{fffe}\u{10ffff}";

    #[test]
    fn nothing_is_left_that_is_not_seen() {
        for c in UNSEEN.chars() {
            assert_eq!(shown(c.to_string().as_bytes(), &invisible()), c.escape_default().to_string());
        }
        let seen = "na\u{ef}ve \u{65e5}\u{672c} \u{1f600} e\u{301} \u{939}\u{93f}\u{902}";
        assert_eq!(shown(seen.as_bytes(), &invisible()), seen);
    }

    /// The last byte of `\u{11b}` is a control character to a terminal that takes each byte for one character.
    #[test]
    fn only_a_locale_of_utf_8_is_given_more_than_ascii() {
        assert_eq!(shown("~ \u{11b}\u{e9}".as_bytes(), &regex("[^ -~]")), "~ \\u{11b}\\u{e9}");
        let of = |set: &'static [(&str, &str)]| {
            is_utf8(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string()))
        };
        assert!(
            of(&[("LANG", "de_DE.UTF-8")]) && of(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8"), ("LANG", "C")])
        );
        assert!(
            !of(&[])
                && !of(&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")])
                && !of(&[("LANG", "de_DE.ISO-8859-1")])
        );
    }

    #[test]
    fn json_is_plain_and_gives_all_back() {
        let value = Value::from(format!("\u{9b}\x7f\x1b\n\"\u{e9}{UNSEEN}"));
        let written = |hidden: &Regex| {
            let mut out = Vec::new();
            write_escaped(&mut out, &value, hidden).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(!hidden.is_match(&text), "{text}");
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
            text
        };
        let text = written(&invisible());
        assert!(text.starts_with("\"\\u009b\\u007f\\u001b\\n\\\"\u{e9}\\u3164\\u115f"), "{text}");
        assert!(written(&regex("[^ -~]")).is_ascii());
    }
}
