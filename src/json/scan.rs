//! Looking at text eight bytes at a time.
//!
//! A `u64` is a register of eight bytes: one subtraction and a mask ask all eight the same question
//! ("are you a quote?"), and counting trailing zeros tells which was first to say yes. This is called
//! SWAR, SIMD within a register; it needs neither unsafe code nor a particular processor.

const ONES: u64 = u64::MAX / 255;
const HIGHS: u64 = ONES << 7;

fn eight(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

/// A high bit for each byte that a string cannot hold as it is: `"`, `\` and controls. Only the lowest
/// is sure, since a borrow may set those above it; only the lowest is ever asked for.
#[inline(always)]
pub(super) fn specials(word: u64) -> u64 {
    let equals = |byte: u8| (word ^ (ONES * u64::from(byte))).wrapping_sub(ONES);
    (equals(b'"') | equals(b'\\') | word.wrapping_sub(ONES * 0x20)) & !word & HIGHS
}

/// Whether a string cannot hold this byte as it is.
#[inline(always)]
pub(super) fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Where the first special byte is, from `at` on; the length where there is none.
#[inline(always)]
pub(super) fn plain(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = eight(bytes, at) {
        let found = specials(word);
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|byte| !is_special(*byte)) {
        at += 1;
    }
    at
}

/// Where the run of digits that starts at `at` ends.
#[inline(always)]
pub(super) fn many_digits(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = eight(bytes, at) {
        let from_zero = word ^ (ONES * u64::from(b'0'));
        // 0..=9 stay below 0x80 when 0x76 is added; masking first keeps each sum within its byte.
        let found = (((from_zero & !HIGHS) + ONES * 0x76) | from_zero) & HIGHS;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    digits(bytes, at)
}

/// The same for a run that is probably short.
#[inline(always)]
pub(super) fn digits(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// Where the white space that starts at `at` ends. Indented text is mostly runs of spaces.
#[inline(always)]
pub(super) fn space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
        while eight(bytes, at) == Some(ONES * u64::from(b' ')) {
            at += 8;
        }
    }
    at
}
