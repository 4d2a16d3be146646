//! Bytes as text that cannot play tricks on a terminal.

/// Appends `bytes`: control characters, and those that turn or hide the text around them, as `\n`, `\u{1b}` and the like;
/// bytes that are no UTF-8 as `\xff`. Backslashes stay as they are.
pub fn push_printable(text: &mut String, bytes: &[u8]) {
    if bytes.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        // Nothing to escape, as nearly always.
        text.push_str(str::from_utf8(bytes).unwrap_or_default());
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || is_invisible(c) { text.extend(c.escape_default()) } else { text.push(c) }
        }
        chunk.invalid().iter().for_each(|byte| text.extend(byte.escape_ascii().map(char::from)));
    }
}

/// As [`push_printable`].
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    push_printable(&mut text, bytes);
    text
}

/// Separators of lines, marks of direction, characters without width: what makes text look like other text.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(printable(b"plain \\ text"), "plain \\ text");
        assert_eq!(printable(b"a\x1b[31m\n\x07\x7f"), "a\\u{1b}[31m\\n\\u{7}\\u{7f}");
        assert_eq!(printable(b"\xff\xc3(\xc3\xa9"), "\\xff\\xc3(\u{e9}");
        assert_eq!(printable("a\u{202e}b\u{9b}c\u{200b}".as_bytes()), "a\\u{202e}b\\u{9b}c\\u{200b}");
    }
}
