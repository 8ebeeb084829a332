//! The grammar of RFC 8259, once.
//!
//! Recursive descent: each production is a function that looks at one byte, knows from it what must
//! follow, and calls the function of the production inside. The parser builds nothing. It tells a
//! [`Sink`] what it meets, and the compiler makes a parser of its own for each sink: one that checks
//! has no trace of a tree. [`Parser::object`] and [`Parser::array`] are the same productions for a
//! caller that wants to pull the members one by one.
//!
//! It does not read from files or sockets: all of the text is there, as a `&str`, which proves it UTF-8.

use std::ops::Range;

use super::error::{Error, Kind};
use super::string::{Str, escape};
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
    fn number(&mut self, number: Str<'t>) {}
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
    fn white_space(&mut self, gap: Range<usize>) {}
}

/// The sink that only checks.
impl Sink<'_> for () {}

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
        let (at, next) = self.space(self.at, sink);
        self.at = self.any(at, next, sink)?;
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
        (self.at, _) = self.members(self.at, &mut (), |parser, at, _, (), name| {
            parser.at = at;
            member(parser, name).map(|()| parser.at)
        })?;
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
        (self.at, _) = self.elements(self.at, &mut (), |parser, at, _, ()| {
            parser.at = at;
            element(parser).map(|()| parser.at)
        })?;
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
        let (at, next) = self.space(self.at, &mut ());
        self.at = at;
        next
    }

    /// Nothing but white space may be left.
    pub fn end(&mut self) -> Result<(), Error> {
        self.peek();
        if self.at == self.text.len() { Ok(()) } else { Err(self.error(Kind::End, self.at)) }
    }

    // From here on the place is passed and returned, not kept in `self`: so it lives in a register.
    // `next` is the byte there, past any white space.

    // value = false / null / true / object / array / number / string
    fn any<S: Sink<'t>>(&mut self, at: usize, next: u8, sink: &mut S) -> Result<usize, Error> {
        match next {
            b'"' => {
                let (string, end) = self.string(at)?;
                sink.string(string);
                Ok(end)
            }
            b'-' | b'0'..=b'9' => {
                let number = self.number(at)?;
                sink.number(number);
                Ok(number.to)
            }
            b'{' => {
                sink.begin_object();
                let (end, count) = self.members(at, sink, |parser, at, next, sink, name| {
                    sink.name(name);
                    parser.any(at, next, sink)
                })?;
                sink.end_object(count);
                Ok(end)
            }
            b'[' => {
                sink.begin_array();
                let (end, count) = self.elements(at, sink, Self::any)?;
                sink.end_array(count);
                Ok(end)
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
        mut member: impl FnMut(&mut Self, usize, u8, &mut S, Str<'t>) -> Result<usize, E>,
    ) -> Result<(usize, usize), E> {
        self.list(at, b'}', Kind::CommaOrBrace, sink, |parser, at, next, sink| {
            if next != b'"' {
                return Err(parser.error(Kind::Name, at).into());
            }
            let (name, end) = parser.string(at)?;
            let (at, next) = parser.space(end, sink);
            if next != b':' {
                return Err(parser.error(Kind::Colon, at).into());
            }
            let (at, next) = parser.space(at + 1, sink);
            member(parser, at, next, sink, name)
        })
    }

    // array = "[" [ value *( "," value ) ] "]"
    #[inline(always)]
    fn elements<S: Sink<'t>, E: From<Error>>(
        &mut self,
        at: usize,
        sink: &mut S,
        element: impl FnMut(&mut Self, usize, u8, &mut S) -> Result<usize, E>,
    ) -> Result<(usize, usize), E> {
        self.list(at, b']', Kind::CommaOrBracket, sink, element)
    }

    /// What arrays and objects share. Where it ends, and how many items it has.
    #[inline(always)]
    fn list<S: Sink<'t>, E: From<Error>>(
        &mut self,
        bracket: usize,
        close: u8,
        otherwise: Kind,
        sink: &mut S,
        mut item: impl FnMut(&mut Self, usize, u8, &mut S) -> Result<usize, E>,
    ) -> Result<(usize, usize), E> {
        if self.depth == DEPTH_MAX {
            return Err(self.error(Kind::Depth, bracket).into());
        }
        self.depth += 1;
        let mut count = 0;
        let (mut at, mut next) = self.space(bracket + 1, sink);
        while next != close || count > 0 {
            let end = item(self, at, next, sink)?;
            count += 1;
            (at, next) = self.space(end, sink);
            if next == close {
                break;
            } else if next != b',' {
                return Err(self.error(otherwise, at).into());
            }
            (at, next) = self.space(at + 1, sink);
        }
        self.depth -= 1;
        Ok((at + 1, count))
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
        let found = self.text.as_bytes()[at..].starts_with(word.as_bytes());
        if found { Ok(at + word.len()) } else { Err(self.error(Kind::Value, at)) }
    }

    // number = [ "-" ] int [ "." 1*DIGIT ] [ ( "e" / "E" ) [ "-" / "+" ] 1*DIGIT ]
    // int    = "0" / ( digit1-9 *DIGIT )
    #[inline(always)]
    fn number(&self, from: usize) -> Result<Str<'t>, Error> {
        let mut at = from + usize::from(self.byte(from) == b'-');
        at = if self.byte(at) == b'0' { at + 1 } else { self.digits(at, scan::digits)? };
        if self.byte(at) == b'.' {
            at = self.digits(at + 1, scan::many_digits)?;
        }
        if self.byte(at) | 0x20 == b'e' {
            let signed = matches!(self.byte(at + 1), b'-' | b'+');
            at = self.digits(at + 1 + usize::from(signed), scan::digits)?;
        }
        Ok(Str { text: self.text, from, to: at, escaped: false })
    }

    #[inline(always)]
    fn digits(&self, at: usize, scan: impl FnOnce(&[u8], usize) -> usize) -> Result<usize, Error> {
        let end = scan(self.text.as_bytes(), at);
        if end == at { Err(self.error(Kind::Digit, at)) } else { Ok(end) }
    }

    // string = %x22 *char %x22       And the place behind it.
    #[inline(always)]
    fn string(&self, quote: usize) -> Result<(Str<'t>, usize), Error> {
        let (from, mut to, mut escaped) = (quote + 1, quote + 1, false);
        loop {
            to = scan::plain(self.text.as_bytes(), to);
            match self.text.as_bytes().get(to) {
                Some(b'"') => return Ok((Str { text: self.text, from, to, escaped }, to + 1)),
                Some(b'\\') => to += self.escape(to)?,
                Some(_) => return Err(self.error(Kind::Control, to)),
                None => return Err(self.error(Kind::Quote, to)),
            }
            escaped = true;
        }
    }

    fn escape(&self, at: usize) -> Result<usize, Error> {
        escape(&self.text.as_bytes()[at..]).map(|(_, len)| len).map_err(|kind| self.error(kind, at))
    }

    #[cold]
    fn error(&self, kind: Kind, at: usize) -> Error {
        Error::new(kind, self.text, at)
    }
}
