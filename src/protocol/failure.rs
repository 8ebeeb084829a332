//! What can go wrong with a request: a [`Code`] that a program can switch on, a message that a person can act on,
//! and the facts that a reply carries beside them.
//!
//! One type goes all the way. The parser makes a [`Failure`], an action returns one, the session writes it as an
//! error reply, and the client reads it back whole; only there it becomes an exit code.
//!
//! Messages quote what others wrote: a key, a program's stderr, a value. Whoever wrote that may have put a newline
//! or an escape sequence into it, to forge a line of a log or to drive the reader's terminal. [`one_line`] is the
//! place that makes such text harmless, for replies, the log and the command line alike.

use std::fmt;

use crate::json::JsonText;

words! {
    /// The `code` of an error reply. The words are part of the wire protocol.
    pub enum Code {
        /// The bytes are not JSON.
        BadJson = "bad_json",
        /// It is JSON, but not a request: a member is missing, doubled or of the wrong type.
        BadRequest = "bad_request",
        /// No request and no action has this name.
        UnknownRequest = "unknown_request",
        /// INCREMENT of something that is not an integer.
        NotANumber = "not_a_number",
        /// The condition `if` did not hold; nothing was changed.
        Conflict = "conflict",
        /// The request is larger than the server takes.
        TooLarge = "too_large",
        /// No room: memory or disk.
        Full = "full",
        /// A token is needed, or this one is wrong, or the server does not allow this.
        Denied = "denied",
        /// No place for one more connection, or for one more program. Nothing was carried out.
        Busy = "busy",
        /// The request was begun but not finished in time, or a watcher did not take its changes in time.
        Timeout = "timeout",
        /// The action said no, failed, was killed or panicked.
        ActionFailed = "action_failed",
        /// To a client: what a later server may send. The message begins with the word that came.
        Unknown = "unknown",
    }
}

/// A request refused: the code for programs, the message for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub code: Code,
    /// What is wrong and what to do. It may quote anything, so whoever shows it keeps it to one line.
    pub message: String,
    /// The key that the request was about, where it had a good one.
    pub key: Option<String>,
    /// After `conflict`: the value that the key has, or `Some(None)` where the key is missing.
    pub present: Option<Option<JsonText<'static>>>,
}

impl Failure {
    /// A failure with its message, of a request about no key.
    pub fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), key: None, present: None }
    }

    /// An action's own no, in its words: `Err(Failure::action("sold out"))`. The errors that it meets become one by `?`.
    ///
    /// ```
    /// # use socket_tables::protocol::{Code, Failure};
    /// let halve = |text: &str| match text.parse::<u64>()? {
    ///     odd if odd % 2 == 1 => Err(Failure::action("that is odd")),
    ///     even => Ok(even / 2),
    /// };
    /// assert_eq!(halve("42"), Ok(21));
    /// assert_eq!(halve("x").unwrap_err().message, "invalid digit found in string");
    /// assert_eq!(halve("7").unwrap_err().code, Code::ActionFailed);
    /// ```
    pub fn action(message: impl Into<String>) -> Failure {
        Failure::new(Code::ActionFailed, message)
    }

    /// The same, of a request about this key.
    pub fn about(self, key: &str) -> Failure {
        Failure { key: Some(key.to_owned()), ..self }
    }
}

/// A request that makes no sense.
pub(super) fn bad(message: impl Into<String>) -> Failure {
    Failure::new(Code::BadRequest, message)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

/// Any error becomes `action_failed`, so that actions can use `?`. For this, `Failure` itself cannot be a
/// `std::error::Error`: the two conversions from it would overlap. The client wraps it in an error that is one.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::action(error.to_string())
    }
}

/// How [`one_line`] writes what must not stand in a line as it is.
#[derive(Clone, Copy)]
pub(crate) enum Escape {
    /// For messages: control characters as Rust writes them, `\n` and `\u{1b}`.
    Message,
    /// For replies: control characters as JSON writes them, `\u000a`.
    Json,
    /// Between quotes: also quotes, backslashes, and whatever is invisible or turns the direction of writing, since
    /// a line of a log must stay one that `grep` and people read alike.
    Quoted,
}

/// Foreign text in one line that drives no terminal, cut after at most `bytes_max` bytes. What is cut ends in `…`,
/// which comes on top, and never within a character or an escape.
pub(crate) fn one_line(text: &str, bytes_max: usize, escape: Escape) -> String {
    let mut line = String::with_capacity(text.len().min(bytes_max));
    for c in text.chars() {
        let end = line.len();
        match escape {
            Escape::Quoted => line.extend(c.escape_debug()),
            // Unicode's control characters are U+0000 to U+001F and U+007F to U+009F: DEL and, with U+009B, a
            // second way to begin an escape sequence are among them.
            Escape::Message | Escape::Json if !c.is_control() => line.push(c),
            Escape::Message => line.extend(c.escape_default()),
            Escape::Json => line.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
        if line.len() > bytes_max {
            line.truncate(end);
            line.push('…');
            break;
        }
    }
    line
}

/// The beginning of somebody else's words, fit to be quoted in a message. No more of them is looked at than is
/// shown, so that a megabyte costs no more than a line.
pub(crate) fn excerpt(words: &[u8]) -> String {
    const BYTES_MAX: usize = 256;
    let words = words.trim_ascii();
    // A character that this cuts in two lies beyond what is shown.
    let words = String::from_utf8_lossy(&words[..words.len().min(BYTES_MAX + 4)]);
    one_line(words.trim(), BYTES_MAX, Escape::Message)
}

/// A longer word is near to no name of ours: none has so many letters.
const LETTERS_MAX: usize = 32;

/// The candidate nearest to a misspelt `word`, if any is near enough to be meant: with one slip (a letter wrong,
/// missing, added, or two swapped), or two where the word has five letters or more. In a shorter word two slips
/// make nearly any word of any other: `lock` is not `load`.
pub(crate) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let slips_max = if word.len() < 5 { 1 } else { 2 };
    // A server does this for whoever sends names that it does not know, so words that cannot be near are out
    // before they are compared: a slip changes the length by one at most.
    let fits = |near: &&str| word.len() <= LETTERS_MAX && near.len().abs_diff(word.len()) <= slips_max;
    let compared =
        candidates.into_iter().filter(fits).map(|near| (slips(word.as_bytes(), near.as_bytes()), near));
    compared.filter(|(slips, _)| *slips <= slips_max).min_by_key(|(slips, _)| *slips).map(|(_, near)| near)
}

/// How many slips lead from one word to the other, compared without case: the optimal string alignment distance, by
/// the textbook's matrix. Its cell `[i][j]` holds the slips between the first `i` letters of the one word and the
/// first `j` of the other.
fn slips(a: &[u8], b: &[u8]) -> usize {
    let mut cells = [[0_usize; LETTERS_MAX + 3]; LETTERS_MAX + 1];
    let same = |i: usize, j: usize| a[i - 1].eq_ignore_ascii_case(&b[j - 1]);
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            cells[i][j] = match (i, j) {
                (0, _) | (_, 0) => i + j,
                _ => {
                    let changed = cells[i - 1][j - 1] + usize::from(!same(i, j));
                    let one_more = 1 + cells[i - 1][j].min(cells[i][j - 1]);
                    let swapped = i > 1 && j > 1 && same(i, j - 1) && same(i - 1, j);
                    let swap = if swapped { 1 + cells[i - 2][j - 2] } else { usize::MAX };
                    changed.min(one_more).min(swap)
                }
            };
        }
    }
    cells[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_stays_in_its_line_and_is_cut_between_characters() {
        for (text, bytes_max, escape, line) in [
            ("a\nb\u{1b}[31m\0\u{9b}é", 99, Escape::Message, "a\\nb\\u{1b}[31m\\u{0}\\u{9b}é"),
            ("a\nb\u{7f}\"\\", 99, Escape::Json, "a\\u000ab\\u007f\"\\"),
            ("a\t\"\u{202e}\\", 99, Escape::Quoted, "a\\t\\\"\\u{202e}\\\\"),
            ("éé", 4, Escape::Message, "éé"),
            ("ééé", 5, Escape::Message, "éé…"),
            ("ab\n", 3, Escape::Message, "ab…"),
        ] {
            assert_eq!(one_line(text, bytes_max, escape), line);
        }
    }

    #[test]
    fn the_near_word_is_found_and_a_far_one_is_not() {
        let words = ["get", "getall", "update", "delete", "watch"];
        for (typed, meant) in [
            ("gte", Some("get")),
            ("updat", Some("update")),
            ("UPDATE", Some("update")),
            ("dleete", Some("delete")),
            ("getal", Some("getall")),
            ("frobnicate", None),
            ("wtac", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(did_you_mean(typed, words), meant, "{typed}");
        }
    }
}
