//! The grammar of RFC 8259, once.
//!
//! Recursive descent: each production is a function that looks at one byte, knows from it what must
//! follow, and calls the function of the production inside. The parser builds nothing. It tells a
//! [`Sink`] what it meets, and the compiler makes a parser of its own for each sink: one that checks
//! has no trace of a tree. [`Parser::object`] and [`Parser::array`] are the same productions for a
//! caller that wants to pull the members one by one.
//!
//! It does not read from files or sockets: all of the text is there, as a `&str`, which proves it UTF-8.

use std::borrow::Cow;
use std::ops::Range;

use super::error::{Error, Kind};
use super::{Text, scan, text::Gaps};

/// How deep arrays and objects may nest. Each level is a frame on the stack of whoever parses, clones,
/// compares, prints or drops it, and a stack overflow ends the process: 100,000 `[` must be an error.
pub const DEPTH_MAX: usize = 128;

/// Is told what a parser meets, in order. Each method does nothing unless it is overridden.
#[allow(unused_variables)]
pub trait Sink<'t> {
    /// `null`.
    fn null(&mut self) {}
    /// `true` or `false`.
    fn bool(&mut self, value: bool) {}
    /// A number, as written.
    fn number(&mut self, number: Piece<'t>) {}
    /// A string that is a value.
    fn string(&mut self, string: Str<'t>) {}
    /// A member's name; its value comes next.
    fn name(&mut self, name: Str<'t>) {}
    /// `[`.
    fn begin_array(&mut self) {}
    /// `]` after this many elements.
    fn end_array(&mut self, count: usize) {}
    /// `{`.
    fn begin_object(&mut self) {}
    /// `}` after this many members.
    fn end_object(&mut self, count: usize) {}
    /// White space between tokens, by its place in the text.
    fn white_space(&mut self, range: Range<usize>) {}
}

/// The sink that only checks.
impl Sink<'_> for () {}

/// A piece of the text, as written.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'t> {
    text: &'t str,
    from: usize,
    to: usize,
}

impl<'t> Piece<'t> {
    /// What it says.
    pub fn as_str(self) -> &'t str {
        &self.text[self.from..self.to]
    }

    #[inline(always)]
    pub(super) fn len(self) -> usize {
        self.to - self.from
    }

    /// From its first byte to the end of the whole text.
    #[inline(always)]
    pub(super) fn rest(self) -> &'t [u8] {
        &self.text.as_bytes()[self.from..]
    }
}

/// A string as it stands in the text, between its quotes, with its escapes still escaped.
#[derive(Clone, Copy, Debug)]
pub struct Str<'t> {
    pub(super) piece: Piece<'t>,
    pub(super) escaped: bool,
}

impl<'t> Str<'t> {
    /// What stands between the quotes of a valid JSON string.
    pub(super) fn within_quotes(quoted: &'t str) -> Str<'t> {
        let piece = Piece { text: quoted, from: 1, to: quoted.len() - 1 };
        Str { piece, escaped: quoted.as_bytes().contains(&b'\\') }
    }

    /// The text between the quotes, as written.
    pub fn raw(self) -> &'t str {
        self.piece.as_str()
    }

    /// The string that is meant. Borrowed where it has no escapes. Cannot fail: the parser has refused
    /// every escape that means nothing.
    pub fn unescape(self) -> Cow<'t, str> {
        if self.escaped { Cow::Owned(unescape(self.raw())) } else { Cow::Borrowed(self.raw()) }
    }
}

/// A parser at some place in a text. After an error it is at no place in particular: drop it.
#[derive(Debug)]
pub struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl<'t> Parser<'t> {
    /// A parser at the start of `text`.
    pub fn new(text: &'t str) -> Parser<'t> {
        Parser { text, at: 0, depth: 0 }
    }

    /// One value of any kind, told to `sink`.
    pub fn value<S: Sink<'t>>(&mut self, sink: &mut S) -> Result<(), Error> {
        self.at = self.value_at(self.at, sink)?;
        Ok(())
    }

    /// One object. `member` is called with each name and must consume the value: by `value`, `object`,
    /// `array`, `compact` or `skip`.
    pub fn object<E: From<Error>>(
        &mut self,
        mut member: impl FnMut(&mut Self, Str<'t>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.peek() != b'{' {
            return Err(self.error(Kind::Object, self.at).into());
        }
        let pull = |parser: &mut Self, at, (): &mut (), name| {
            parser.at = at;
            member(parser, name).map(|()| parser.at)
        };
        self.at = self.members(self.at, &mut (), pull)?.0;
        Ok(())
    }

    /// One array. `element` must consume one value each time it is called.
    pub fn array<E: From<Error>>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.peek() != b'[' {
            return Err(self.error(Kind::Array, self.at).into());
        }
        let pull = |parser: &mut Self, at, (): &mut ()| {
            parser.at = at;
            element(parser).map(|()| parser.at)
        };
        self.at = self.elements(self.at, &mut (), pull)?.0;
        Ok(())
    }

    /// One value as text less white space; borrowed where it held none.
    pub fn compact(&mut self) -> Result<Text<'t>, Error> {
        self.peek();
        let mut gaps = Gaps::new(self.text, self.at);
        self.value(&mut gaps)?;
        Ok(gaps.close(self.at))
    }

    /// One value, checked and passed over.
    pub fn skip(&mut self) -> Result<(), Error> {
        self.value(&mut ())
    }

    /// The byte that begins what is next, past white space; 0 at the end of the text.
    pub fn peek(&mut self) -> u8 {
        let (at, byte) = self.space(self.at, &mut ());
        self.at = at;
        byte
    }

    /// Nothing but white space may be left.
    pub fn end(&mut self) -> Result<(), Error> {
        self.peek();
        if self.at == self.text.len() { Ok(()) } else { Err(self.error(Kind::End, self.at)) }
    }

    // From here on the place is passed and returned, not kept in `self`: so it lives in a register.

    fn value_at<S: Sink<'t>>(&mut self, at: usize, sink: &mut S) -> Result<usize, Error> {
        let (at, byte) = self.space(at, sink);
        match byte {
            b'"' => {
                let (string, at) = self.string(at)?;
                sink.string(string);
                Ok(at)
            }
            b'-' | b'0'..=b'9' => {
                let number = self.number(at)?;
                sink.number(number);
                Ok(number.to)
            }
            b'{' => {
                sink.begin_object();
                let (at, count) = self.members(at, sink, |parser, at, sink, name| {
                    sink.name(name);
                    parser.value_at(at, sink)
                })?;
                sink.end_object(count);
                Ok(at)
            }
            b'[' => {
                sink.begin_array();
                let (at, count) = self.elements(at, sink, |parser, at, sink| parser.value_at(at, sink))?;
                sink.end_array(count);
                Ok(at)
            }
            b'n' => self.word(at, "null").inspect(|_| sink.null()),
            b't' => self.word(at, "true").inspect(|_| sink.bool(true)),
            b'f' => self.word(at, "false").inspect(|_| sink.bool(false)),
            _ => Err(self.error(Kind::Value, at)),
        }
    }

    // object = "{" [ member *( "," member ) ] "}"       member = string ":" value
    #[inline(always)]
    fn members<S: Sink<'t>, E: From<Error>>(
        &mut self,
        at: usize,
        sink: &mut S,
        mut member: impl FnMut(&mut Self, usize, &mut S, Str<'t>) -> Result<usize, E>,
    ) -> Result<(usize, usize), E> {
        self.deeper(at)?;
        let mut count = 0;
        let (mut at, mut next) = self.space(at + 1, sink);
        if next != b'}' {
            loop {
                if next != b'"' {
                    return Err(self.error(Kind::Name, at).into());
                }
                let (name, end) = self.string(at)?;
                (at, next) = self.space(end, sink);
                if next != b':' {
                    return Err(self.error(Kind::Colon, at).into());
                }
                let end = member(self, at + 1, sink, name)?;
                count += 1;
                (at, next) = self.space(end, sink);
                match next {
                    b',' => (at, next) = self.space(at + 1, sink),
                    b'}' => break,
                    _ => return Err(self.error(Kind::CommaOrBrace, at).into()),
                }
            }
        }
        self.depth -= 1;
        Ok((at + 1, count))
    }

    // array = "[" [ value *( "," value ) ] "]"
    #[inline(always)]
    fn elements<S: Sink<'t>, E: From<Error>>(
        &mut self,
        at: usize,
        sink: &mut S,
        mut element: impl FnMut(&mut Self, usize, &mut S) -> Result<usize, E>,
    ) -> Result<(usize, usize), E> {
        self.deeper(at)?;
        let mut count = 0;
        let (mut at, mut next) = self.space(at + 1, sink);
        if next != b']' {
            loop {
                let end = element(self, at, sink)?;
                count += 1;
                (at, next) = self.space(end, sink);
                match next {
                    b',' => at += 1,
                    b']' => break,
                    _ => return Err(self.error(Kind::CommaOrBracket, at).into()),
                }
            }
        }
        self.depth -= 1;
        Ok((at + 1, count))
    }

    #[inline(always)]
    fn deeper(&mut self, at: usize) -> Result<(), Error> {
        if self.depth == DEPTH_MAX {
            return Err(self.error(Kind::Depth, at));
        }
        self.depth += 1;
        Ok(())
    }

    /// Past white space, and the byte that is next; 0, which no token begins with, at the end.
    #[inline(always)]
    fn space<S: Sink<'t>>(&self, at: usize, sink: &mut S) -> (usize, u8) {
        let next = self.byte(at);
        if next > b' ' {
            return (at, next);
        }
        let end = scan::space(self.text.as_bytes(), at);
        if end > at {
            sink.white_space(at..end);
        }
        (end, self.byte(end))
    }

    #[inline(always)]
    fn byte(&self, at: usize) -> u8 {
        self.text.as_bytes().get(at).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn word(&self, at: usize, word: &str) -> Result<usize, Error> {
        if !self.text.as_bytes()[at..].starts_with(word.as_bytes()) {
            return Err(self.error(Kind::Value, at));
        }
        Ok(at + word.len())
    }

    // number = [ "-" ] int [ "." 1*DIGIT ] [ ( "e" / "E" ) [ "-" / "+" ] 1*DIGIT ]
    // int    = "0" / ( digit1-9 *DIGIT )
    #[inline(always)]
    fn number(&self, from: usize) -> Result<Piece<'t>, Error> {
        let mut at = from + usize::from(self.byte(from) == b'-');
        at = if self.byte(at) == b'0' { at + 1 } else { self.some(at, scan::short_digits)? };
        if self.byte(at) == b'.' {
            at = self.some(at + 1, scan::digits)?;
        }
        if self.byte(at) | 0x20 == b'e' {
            let signed = matches!(self.byte(at + 1), b'-' | b'+');
            at = self.some(at + 1 + usize::from(signed), scan::short_digits)?;
        }
        Ok(Piece { text: self.text, from, to: at })
    }

    #[inline(always)]
    fn some(&self, at: usize, digits: impl FnOnce(&[u8], usize) -> usize) -> Result<usize, Error> {
        let end = digits(self.text.as_bytes(), at);
        if end == at { Err(self.error(Kind::Digit, at)) } else { Ok(end) }
    }

    // string = %x22 *char %x22
    #[inline(always)]
    fn string(&self, quote: usize) -> Result<(Str<'t>, usize), Error> {
        let (from, mut at, mut escaped) = (quote + 1, quote + 1, false);
        loop {
            at = scan::plain(self.text.as_bytes(), at);
            match self.text.as_bytes().get(at) {
                Some(b'"') => {
                    let piece = Piece { text: self.text, from, to: at };
                    return Ok((Str { piece, escaped }, at + 1));
                }
                Some(b'\\') => at = self.escape(at)?,
                Some(_) => return Err(self.error(Kind::Control, at)),
                None => return Err(self.error(Kind::Quote, at)),
            }
            escaped = true;
        }
    }

    /// Past one escape. A character beyond U+FFFF is written as two `\u` escapes, a surrogate pair: the
    /// high half of its number on D800, the low half on DC00. One without the other is no character, and
    /// no `str` could hold it.
    fn escape(&self, at: usize) -> Result<usize, Error> {
        let rest = &self.text.as_bytes()[at..];
        match rest.get(1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
            Some(b'u') => match (code_unit(rest), rest.get(6..).and_then(code_unit)) {
                (None, _) => Err(self.error(Kind::Hex, at)),
                (Some(0xD800..0xDC00), Some(0xDC00..0xE000)) => Ok(at + 12),
                (Some(0xD800..0xE000), _) => Err(self.error(Kind::Surrogate, at)),
                _ => Ok(at + 6),
            },
            _ => Err(self.error(Kind::Escape, at)),
        }
    }

    #[cold]
    fn error(&self, kind: Kind, at: usize) -> Error {
        Error::new(kind, self.text, at)
    }
}

/// The number in an escape `\uXXXX` at the start of `bytes`.
fn code_unit(bytes: &[u8]) -> Option<u32> {
    let [b'\\', b'u', hex @ ..] = bytes.first_chunk::<6>()? else { return None };
    hex.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
}

fn unescape(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.push_str(plain);
        let at = raw.len() - escape.len() - 1;
        let (meant, len) = match escape.as_bytes()[0] {
            b'u' => decode(&raw.as_bytes()[at..]),
            b'b' => ('\u{8}', 2),
            b'f' => ('\u{c}', 2),
            b'n' => ('\n', 2),
            b'r' => ('\r', 2),
            b't' => ('\t', 2),
            itself => (char::from(itself), 2),
        };
        out.push(meant);
        rest = &raw[at + len..];
    }
    out.push_str(rest);
    out
}

/// What one `\u` escape, or a pair of them, at the start of `bytes` stands for, and how long it is.
fn decode(bytes: &[u8]) -> (char, usize) {
    let unit = |at: usize| bytes.get(at..).and_then(code_unit).expect("the parser has checked it");
    match unit(0) {
        high @ 0xD800..0xDC00 => {
            let number = 0x10000 + ((high - 0xD800) << 10) + (unit(6) - 0xDC00);
            (char::from_u32(number).expect("a pair is always a character"), 12)
        }
        number => (char::from_u32(number).expect("the parser refused lone surrogates"), 6),
    }
}
