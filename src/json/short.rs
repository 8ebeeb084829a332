//! Text that needs no allocation while it is short.
//!
//! Most names, strings and numbers in JSON are a few bytes long, and allocating and freeing each costs more
//! than parsing it. A `Short<N>` keeps up to N bytes in place and goes to the heap beyond. The price: without
//! unsafe code, bytes kept in place are proved to be UTF-8 again each time they are asked for as a `str`.
//! Writing and comparing ask for bytes.

use std::fmt;
use std::ops::Deref;

use super::{Str, scan};

/// A string of any length; up to `N` bytes are kept in place. Reads as a `str`.
#[derive(Clone)]
pub struct Short<const N: usize>(Held<N>);

#[derive(Clone)]
enum Held<const N: usize> {
    /// The bytes past `len` are whatever followed in the source: copying a fixed number is faster.
    Here {
        len: u8,
        bytes: [u8; N],
    },
    Boxed(Box<str>),
}

impl<const N: usize> Short<N> {
    /// The bytes, UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Held::Here { len, bytes } => &bytes[..usize::from(*len)],
            Held::Boxed(text) => text.as_bytes(),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Held::Here { .. } => std::str::from_utf8(self.as_bytes()).expect("copied from a str"),
            Held::Boxed(text) => text,
        }
    }

    pub(super) const EMPTY: Short<N> = Short(Held::Here { len: 0, bytes: [0; N] });

    /// Becomes a piece of a text. What follows the piece allows a copy of fixed size.
    #[inline(always)]
    pub(super) fn set(&mut self, piece: Str<'_>) {
        let len = piece.to - piece.from;
        match (&mut self.0, piece.text.as_bytes()[piece.from..].first_chunk()) {
            (Held::Here { len: place, bytes }, Some(chunk)) if len <= N => {
                *place = len as u8;
                *bytes = *chunk;
            }
            _ => *self = Short::from(piece.raw()),
        }
    }

    /// Whether it is kept in place and JSON can hold it without escapes. What follows it does not matter.
    #[inline(always)]
    pub(super) fn is_plain(&self) -> bool {
        matches!(&self.0, Held::Here { len, bytes } if scan::plain(bytes, 0) >= usize::from(*len))
    }

    /// Appends the bytes; those in place by a copy of fixed size, cut off after.
    #[inline(always)]
    pub(super) fn append(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Held::Here { len, bytes } => {
                let end = out.len() + usize::from(*len);
                out.extend_from_slice(bytes);
                out.truncate(end);
            }
            Held::Boxed(text) => out.extend_from_slice(text.as_bytes()),
        }
    }
}

impl<const N: usize> From<&str> for Short<N> {
    fn from(text: &str) -> Short<N> {
        if text.len() > N {
            return Short(Held::Boxed(text.into()));
        }
        let mut bytes = [0; N];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Short(Held::Here { len: text.len() as u8, bytes })
    }
}

impl<const N: usize> From<String> for Short<N> {
    fn from(text: String) -> Short<N> {
        if text.len() > N { Short(Held::Boxed(text.into())) } else { Short::from(text.as_str()) }
    }
}

impl<const N: usize> Deref for Short<N> {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl<const N: usize> PartialEq for Short<N> {
    fn eq(&self, other: &Short<N>) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl<const N: usize> Eq for Short<N> {}

impl<const N: usize> fmt::Debug for Short<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}
