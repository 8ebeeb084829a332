//! Words to values: numbers, sizes, times, keys. Each reader gives the value, or says what it
//! would have taken, limits included. Nothing is rounded, clipped or guessed.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What a word should have been, for the error message.
pub(super) type Expected = String;

/// Times end here: a year is for ever to a script, and far from any overflow.
const SECONDS_MAX: u64 = 365 * 24 * 60 * 60;

/// The shortest timeout: the system's own take nothing finer, and take zero for "for ever".
pub(super) const MILLISECOND: Duration = Duration::from_millis(1);

/// Stores what was read.
pub(super) fn put<V>(slot: &mut V, read: Result<V, Expected>) -> Result<(), Expected> {
    read.map(|value| *slot = value)
}

/// Words are bytes to the system and text to us.
pub(super) fn text(word: OsString) -> Result<String, Expected> {
    word.into_string().map_err(|_| "UTF-8 text".into())
}

/// A whole number within `range`, in decimal digits alone: no sign, no spaces.
pub(super) fn whole<N: TryFrom<u64>>(word: OsString, range: RangeInclusive<u64>) -> Result<N, Expected> {
    word.to_str()
        .and_then(digits)
        .filter(|number| range.contains(number))
        .and_then(|number| number.try_into().ok())
        .ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
}

/// A number of bytes, from 1 to `max`: a whole number, or one followed by `K`, `M` or `G`.
pub(super) fn size<N: TryFrom<u64>>(word: OsString, max: u64) -> Result<N, Expected> {
    let read = |word: &str| {
        let unit = match word.bytes().last()?.to_ascii_uppercase() {
            b'K' => 10,
            b'M' => 20,
            b'G' => 30,
            _ => 0,
        };
        digits(&word[..word.len() - usize::from(unit > 0)])?.checked_mul(1 << unit)
    };
    word.to_str()
        .and_then(read)
        .filter(|bytes| (1..=max).contains(bytes))
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| format!("a size from 1 to {max} bytes, as 1000, 64K, 1M or 2G"))
}

/// A time in seconds, to the nanosecond: `5`, `0.25`, `.5`.
pub(super) fn seconds(word: OsString, least: Duration) -> Result<Duration, Expected> {
    let read = |word: &str| {
        let (whole, fraction) = word.split_once('.').unwrap_or((word, "0"));
        if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let nanos = format!("{fraction:0<9}").parse().ok()?;
        let whole = if whole.is_empty() { 0 } else { digits(whole)? };
        Some(Duration::new(whole.min(SECONDS_MAX + 1), nanos))
    };
    word.to_str()
        .and_then(read)
        .filter(|time| (least..=Duration::from_secs(SECONDS_MAX)).contains(time))
        .ok_or_else(|| format!("seconds from {} to {SECONDS_MAX}, as 5 or 0.25", least.as_secs_f64()))
}

/// `str::parse` alone would take a plus sign.
fn digits(word: &str) -> Option<u64> {
    word.bytes().all(|b| b.is_ascii_digit()).then(|| word.parse().ok()).flatten()
}
