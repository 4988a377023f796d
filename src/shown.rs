//! Foreign words in what people read and paste: names of files and objects, lines of logs, answers of servers.
//!
//! Whoever writes an object into a bucket, or a line into a log, chooses such a word. In a command the word must stay
//! one word, so [`Hint`] accepts text that is not part of this program only through [`hint!`](crate::shown::hint),
//! which quotes it. On a terminal the word must not move the cursor, hide text or turn its direction, so [`visible`]
//! spells out what would do that.

use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What to type next: a command, or a sentence with commands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint(String);

impl Hint {
    /// A text whose foreign words are quoted already, because emr-shs itself printed it as a hint.
    pub(crate) fn printed_before(text: &str) -> Self {
        Self(text.into())
    }

    /// The same hint for somebody whose command was refused: it names that command, where it named a
    /// restart of the history server.
    pub(crate) fn with_this_command_again(self) -> Self {
        Self(self.0.replace("then: sudo emr-shs restart", "then type this command again"))
    }

    /// Fills each `{}` of `pattern` with the next part. Use [`hint!`](crate::shown::hint), which counts them.
    pub(crate) fn filled(pattern: &'static str, parts: &[&dyn HintPart]) -> Self {
        let mut pieces = pattern.split("{}");
        let mut text = pieces.next().unwrap_or_default().to_string();
        for (part, piece) in parts.iter().zip(pieces) {
            text.push_str(&part.as_typed());
            text.push_str(piece);
        }
        Self(text)
    }
}

impl From<&'static str> for Hint {
    fn from(text: &'static str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Hint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// What may fill a hole of a [`Hint`], as people type it.
pub(crate) trait HintPart {
    fn as_typed(&self) -> Cow<'_, str>;
}

impl HintPart for Hint {
    fn as_typed(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.0)
    }
}

impl<T: HintPart + ?Sized> HintPart for &T {
    fn as_typed(&self) -> Cow<'_, str> {
        (**self).as_typed()
    }
}

macro_rules! quoted_parts {
    ($($type:ty: |$word:ident| $bytes:expr;)*) => {
        $(impl HintPart for $type {
            fn as_typed(&self) -> Cow<'_, str> {
                let $word = self;
                Cow::Owned(shell_word($bytes))
            }
        })*
    };
}

quoted_parts! {
    str: |word| word.as_bytes();
    String: |word| word.as_bytes();
    Cow<'_, str>: |word| word.as_bytes();
    OsStr: |word| word.as_bytes();
    Path: |word| word.as_os_str().as_bytes();
    PathBuf: |word| word.as_os_str().as_bytes();
}

/// Words with a blank between them.
impl<T: HintPart> HintPart for [T] {
    fn as_typed(&self) -> Cow<'_, str> {
        Cow::Owned(self.iter().map(HintPart::as_typed).collect::<Vec<_>>().join(" "))
    }
}

macro_rules! number_parts {
    ($($type:ty)*) => {
        $(impl HintPart for $type {
            fn as_typed(&self) -> Cow<'_, str> {
                Cow::Owned(self.to_string())
            }
        })*
    };
}

number_parts! { u16 u32 u64 usize i32 i64 }

/// A [`Hint`] with words that are not part of this program: `hint!("tail -50 {}", path)`. Text is quoted for shells,
/// a number and another `Hint` stay as they are. The pattern has no other holes than `{}`: a `{name}` would pass
/// `name` on unquoted, so it does not compile.
macro_rules! hint {
    ($pattern:literal $(, $part:expr)* $(,)?) => {{
        const { assert!($crate::shown::holes($pattern) == <[&str]>::len(&[$(stringify!($part)),*])) };
        $crate::shown::Hint::filled($pattern, &[$(&$part as &dyn $crate::shown::HintPart),*])
    }};
}
pub(crate) use hint;

/// The number of `{}` in a pattern. Refuses any other brace.
pub(crate) const fn holes(pattern: &str) -> usize {
    let bytes = pattern.as_bytes();
    let (mut at, mut found) = (0, 0);
    while at < bytes.len() {
        if bytes[at] == b'{' {
            assert!(at + 1 < bytes.len() && bytes[at + 1] == b'}', "a hint has no other holes than {{}}");
            found += 1;
            at += 1;
        }
        at += 1;
    }
    found
}

/// A word for a shell: quoted where the shell would not read it as one plain word. A word with characters that a
/// terminal does not show becomes `$'…'`, which Bash and Zsh read.
pub(crate) fn shell_word(word: &[u8]) -> String {
    let text = std::str::from_utf8(word).ok().filter(|text| !text.chars().any(is_hidden));
    if let Some(quoted) = text.and_then(|text| shlex::try_quote(text).ok()) {
        return quoted.into_owned();
    }
    let mut out = String::from("$'");
    for chunk in word.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' | '\\' => out.extend(['\\', c]),
                c if is_hidden(c) => push_bytes(&mut out, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => out.push(c),
            }
        }
        push_bytes(&mut out, chunk.invalid());
    }
    out + "'"
}

fn push_bytes(out: &mut String, bytes: &[u8]) {
    bytes.iter().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
}

/// The text with every character spelled out that a terminal obeys or does not show: `\x1b`, `\u{202e}`. Line ends
/// and tabs stay.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    spelled_out(text, |c| is_hidden(c) && c != '\n' && c != '\t')
}

/// The same for text that is one line, or a part of one.
pub(crate) fn visible_line(text: &str) -> Cow<'_, str> {
    spelled_out(text, is_hidden)
}

/// The same for JSON: the characters become escapes that mean the same.
pub(crate) fn visible_json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(|c| is_hidden(c) && c != '\n') {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_hidden(c) && c != '\n' {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn spelled_out(text: &str, hides: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&hides) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' if hides(c) => out.push_str("\\n"),
            '\r' if hides(c) => out.push_str("\\r"),
            '\t' if hides(c) => out.push_str("\\t"),
            c if hides(c) && u32::from(c) < 0x100 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if hides(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Whether a terminal obeys the character, or shows nothing for it: controls, marks that turn the direction of text,
/// separators of lines, and characters without width.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A number for people: `12,345`
pub(crate) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a shell as a person has it")]
    fn a_foreign_word_stays_one_word_of_a_shell() {
        for word in
            ["app-$(id>pwn)", "a b", "it's", "!!", "-rf", "~root", "a;b", "`id`", "x\ny", "\u{1b}[31mred", "a\u{202e}b"]
        {
            let typed = hint!("printf %s {}", word).to_string();
            let out = std::process::Command::new("bash").args(["-c", &typed]).output().unwrap();
            if word != "-rf" {
                assert_eq!(String::from_utf8_lossy(&out.stdout), word, "{typed}");
            }
            assert!(!typed.chars().any(is_hidden), "{typed}");
        }
        assert_eq!(
            hint!("tail -50 {}; ss | grep :{}", Path::new("/var/log/x"), 5u16).to_string(),
            "tail -50 /var/log/x; ss | grep :5"
        );
        assert_eq!(shell_word(b"a\xff'b"), "$'a\\xff\\'b'");
    }

    #[test]
    fn what_a_terminal_obeys_is_spelled_out() {
        assert_eq!(visible("a\u{1b}]0;x\u{7}b\u{9b}\u{202e}\tc\nd"), "a\\x1b]0;x\\x07b\\x9b\\u{202e}\tc\nd");
        assert_eq!(visible_line("a\nb\r"), "a\\nb\\r");
        let json = serde_json::json!({ "a": "\u{7f}\u{e0041}é" }).to_string();
        let shown = visible_json(&json);
        assert!(!shown.chars().any(is_hidden));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap()["a"], "\u{7f}\u{e0041}é");
    }
}
