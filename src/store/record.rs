//! A line of the journal: how it is written, and how it is known to be whole.
//!
//! ```text
//! 784c2a86 {"st":"journal","version":1,"id":"92d0c1f6a7b3e854"}
//! 6965e3f9 {"n":1,"b":1,"set":"door","value":"open"}
//! d9a26e8b {"n":2,"b":2,"set":"session","until":1795251600000,"value":{"user":7}}
//! ca4ae43a {"n":3,"b":2,"delete":"door"}
//! ```
//!
//! The eight digits are the CRC-32 of the JSON behind them, as Python's `zlib.crc32` has it: a line that was
//! written in part, or whose disk has changed a bit of it, is found out. `n` numbers the records of a file
//! without a gap, so a missing one is found out, too. `b` is the lowest number that was not known to be durable
//! when the line was written: it tells a line that a power loss took, as it may, from one that was safe and has
//! been damaged since.
//!
//! A record is an effect, "this key now has this value", and never a command, "add 1": it may be carried out twice.
//!
//! A newline in a string is escaped, so it only ever ends a line; and no value can hold what begins a record,
//! ` {"n":`, since there is no white space outside of strings, and within them a quote is escaped.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;

use super::{Entry, Table};
use crate::json::{JsonText, Value, write_str};
use crate::protocol::check_key;

/// The version of the format that is written, and the only one that is read.
const VERSION: u64 = 1;
/// What a record has beside its effect, at most: the checksum, two numbers of 20 digits, and what stands between.
pub(super) const ENVELOPE_BYTES: usize = 64;
/// The checksum and the space behind it.
const SEAL_BYTES: usize = 9;
/// What begins a record, behind its checksum.
const BEGINNING: &[u8] = b" {\"n\":";

/// A record as it was read.
#[derive(Debug, PartialEq)]
pub struct Record<'a> {
    /// Its number.
    pub n: u64,
    /// The lowest number not known durable when it was written.
    pub b: u64,
    /// Which key it is about.
    pub key: Cow<'a, str>,
    /// What the key had then; nothing where it was deleted.
    pub entry: Option<Entry<'a>>,
}

impl Record<'_> {
    /// Does again what it says was done.
    pub fn redo(&self, table: &mut Table) {
        match self.entry {
            Some(entry) => table.set(&self.key, entry),
            None => table.remove(&self.key),
        }
    }
}

/// The most bytes that a record can have for a key and a value of so many. Of a key's characters only quotes and
/// backslashes are escaped.
pub(super) fn bytes_max(key: usize, value: Option<usize>) -> u64 {
    let effect = "\"delete\":\"\",\"until\":18446744073709551615,\"value\":}\n".len();
    (ENVELOPE_BYTES + effect + 2 * key + value.unwrap_or_default()) as u64
}

/// Appends what a record says of its key, up to the end of the line. Its numbers and its checksum come when it
/// is written to a file: see [`seal`].
pub(super) fn write_effect(out: &mut Vec<u8>, key: &str, entry: Option<Entry<'_>>) {
    out.extend_from_slice(if entry.is_some() { b"\"set\":" } else { b"\"delete\":" });
    write_str(out, key);
    if let Some(Entry { value, until }) = entry {
        if let Some(until) = until {
            // A `Vec` takes whatever is written to it.
            let _ = write!(out, ",\"until\":{until}");
        }
        out.extend_from_slice(b",\"value\":");
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(b"}\n");
}

/// Appends a record: its numbers, an effect as [`write_effect`] has written it, and the checksum over both.
pub(super) fn seal(out: &mut Vec<u8>, n: u64, b: u64, effect: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&[b' '; SEAL_BYTES]);
    // A `Vec` takes whatever is written to it.
    let _ = write!(out, "{{\"n\":{n},\"b\":{b},");
    out.extend_from_slice(effect);
    write_checksum(&mut out[start..]);
}

/// A file's first line. The id is drawn anew for each file, so that two of them can be told apart.
pub(super) fn header() -> Vec<u8> {
    let id = RandomState::new().hash_one(0);
    let header = format!("{:9}{{\"st\":\"journal\",\"version\":{VERSION},\"id\":\"{id:016x}\"}}\n", "");
    let mut header = header.into_bytes();
    write_checksum(&mut header);
    header
}

/// The version that a first line tells, and whether it is the one that is read here. `None` where it is not the
/// first line of a journal.
pub(super) fn read_header(line: &[u8]) -> Option<Result<(), u64>> {
    let header = Value::parse(unseal(line)?).ok()?;
    header.get("st").filter(|st| st.as_str() == Some("journal"))?;
    let version = header.get("version")?.as_number()?.as_u64()?;
    Some(if version == VERSION { Ok(()) } else { Err(version) })
}

/// The JSON of a line that is whole, with its newline.
pub(super) fn unseal(line: &[u8]) -> Option<&str> {
    let (seal, json) = line.strip_suffix(b"\n")?.split_at_checked(SEAL_BYTES)?;
    // `from_str_radix` would take a sign or capitals as well, and then a flipped bit could go unseen.
    (seal == checksum(json).as_bytes()).then(|| str::from_utf8(json).ok())?
}

/// What a record's JSON says, if this version understands it.
pub(super) fn parse(json: &str) -> Option<Record<'_>> {
    // None of these marks can stand within a string, where quotes are escaped.
    let (head, value) = match json.split_once(",\"value\":") {
        Some((head, value)) => (head, Some(value.strip_suffix('}')?)),
        None => (json.strip_suffix('}')?, None),
    };
    let (n, rest) = head.strip_prefix("{\"n\":")?.split_once(",\"b\":")?;
    let (b, rest) = rest.split_once(',')?;
    let (word, rest) = rest.split_once(':')?;
    let (key, until) = match rest.split_once(",\"until\":") {
        Some((key, until)) => (key, Some(until.parse().ok()?)),
        None => (rest, None),
    };
    let key = JsonText::parse(key).ok()?.into_string()?;
    check_key(&key).ok()?;
    let entry = match (word, value, until) {
        // What is not compact JSON nobody has written here.
        ("\"set\"", Some(value), until) if JsonText::parse(value).ok()?.as_str() == value => {
            Some(Entry { value, until })
        }
        ("\"delete\"", None, None) => None,
        _ => return None,
    };
    Some(Record { n: n.parse().ok()?, b: b.parse().ok()?, key, entry })
}

/// The record that a piece of a damaged file ends with, wherever in the piece it begins: what separated it from
/// the one before may be what was damaged.
pub(super) fn last_in(piece: &[u8]) -> Option<Record<'_>> {
    let at = piece.windows(BEGINNING.len()).rposition(|bytes| bytes == BEGINNING)?;
    parse(unseal(&piece[(at + 1).checked_sub(SEAL_BYTES)?..])?)
}

/// Fills in the checksum at the start of a line.
fn write_checksum(line: &mut [u8]) {
    let (seal, json) = line.split_at_mut(SEAL_BYTES);
    seal.copy_from_slice(checksum(&json[..json.len() - 1]).as_bytes());
}

fn checksum(json: &[u8]) -> String {
    format!("{:08x} ", crc32(json))
}

/// CRC-32 as Ethernet, zip and zlib have it: the remainder of the bytes, as a polynomial over one bit, divided by
/// 0x04C11DB7. Bits come lowest first, so the polynomial is written in reverse.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| REMAINDERS[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

/// What each byte leaves as a remainder.
const REMAINDERS: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_zlib() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn the_lines_at_the_head_of_this_file_are_whole() {
        let lines = include_str!("record.rs").lines().filter_map(|line| line.strip_prefix("//! "));
        let lines = lines.skip_while(|line| *line != "```text").skip(1).take(4);
        let lines: Vec<String> = lines.map(|line| format!("{line}\n")).collect();
        assert_eq!(read_header(lines[0].as_bytes()), Some(Ok(())));
        assert!(lines[1..].iter().all(|line| unseal(line.as_bytes()).and_then(parse).is_some()), "{lines:?}");
    }

    #[test]
    fn a_record_is_as_long_as_it_may_be_and_no_longer() {
        let mut line = Vec::new();
        let entry = Some(Entry { value: "1", until: Some(u64::MAX) });
        write_effect(&mut line, "\"\\", entry);
        let mut sealed = Vec::new();
        seal(&mut sealed, u64::MAX, u64::MAX, &line);
        assert!(sealed.len() as u64 <= bytes_max(2, Some(1)), "{}", sealed.len());
        let record = parse(unseal(&sealed).unwrap()).unwrap();
        assert_eq!(record, Record { n: u64::MAX, b: u64::MAX, key: "\"\\".into(), entry });
    }
}
