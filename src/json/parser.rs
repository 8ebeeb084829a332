//! The grammar of RFC 8259, once.
//!
//! Each rule stands as a comment over the function that follows it. The rules for values, arrays and objects,
//! which contain each other, are one loop; see the module above for why. [`Parser::object`] and
//! [`Parser::array`] are for callers who want to pull items one by one, and recurse themselves.
//!
//! It does not read from files or sockets: all of the text is there, as a `&str`, which proves it UTF-8.

use std::borrow::Cow;
use std::ops::Range;

use super::text::{JsonText, Str, read_escape};
use super::{Error, Kind, fast};

/// How deep arrays and objects may nest: 128 brackets are accepted, one more is an error.
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
    /// `[` or `{`, whichever is given.
    fn begin(&mut self, open: u8) {}
    /// `]` or `}`, whichever is given.
    fn end(&mut self, close: u8) {}
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
    ///
    /// ```
    /// use socket_tables::json::{Error, Parser};
    ///
    /// let mut key = None;
    /// let mut parser = Parser::new(r#"{"request": "GET", "key": "door"}"#);
    /// parser.object::<Error>(|parser, name| {
    ///     let value = parser.compact()?;
    ///     if name.unescape() == "key" {
    ///         key = value.as_string().map(String::from);
    ///     }
    ///     Ok(())
    /// })?;
    /// parser.end()?;
    /// assert_eq!(key.as_deref(), Some("door"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn object<E: From<Error>>(
        &mut self,
        mut member: impl FnMut(&mut Self, Str<'t>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.items(b'{', Kind::Object, |parser| {
            let next = parser.peek();
            let (name, at, _) = parser.name(parser.at, next, &mut ())?;
            parser.at = at;
            member(parser, name)
        })
    }

    /// One array. `element` must consume one value each time it is called.
    pub fn array<E: From<Error>>(
        &mut self,
        element: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.items(b'[', Kind::Array, element)
    }

    fn items<E: From<Error>>(
        &mut self,
        open: u8,
        otherwise: Kind,
        mut item: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.peek() != open {
            return Err(self.error(otherwise, self.at).into());
        }
        self.depth = self.deeper(self.depth, self.at)?;
        self.at += 1;
        let close = closing(open);
        if self.peek() != close {
            item(self)?;
            while self.peek() == b',' {
                self.at += 1;
                item(self)?;
            }
            if self.peek() != close {
                return Err(self.error(after_item(close), self.at).into());
            }
        }
        self.at += 1;
        self.depth -= 1;
        Ok(())
    }

    /// One value as text less white space; borrowed where it held none.
    pub fn compact(&mut self) -> Result<JsonText<'t>, Error> {
        self.peek();
        let mut gaps = Gaps { text: self.text, out: String::new(), from: self.at };
        self.value(&mut gaps)?;
        let rest = &self.text[gaps.from..self.at];
        let text = if gaps.out.is_empty() { Cow::Borrowed(rest) } else { Cow::Owned(gaps.out + rest) };
        Ok(JsonText::trusted(text))
    }

    /// As [`compact`](Parser::compact), for a value that will stand `levels` deeper elsewhere and may
    /// then be too deep.
    pub(crate) fn compact_with_room(&mut self, levels: usize) -> Result<JsonText<'t>, Error> {
        self.depth += levels;
        let text = self.compact();
        self.depth -= levels;
        text
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

    /// Whether another value follows in a stream of them. White space must part the two, or a bracket or quote
    /// on either side: nobody can say what `01` and `nullnull` mean.
    pub fn another(&mut self) -> Result<bool, Error> {
        let (end, next) = (self.at, self.peek());
        let closed = matches!(self.byte(end.saturating_sub(1)), b']' | b'}' | b'"');
        if self.at == self.text.len() || closed || self.at > end || matches!(next, b'[' | b'{' | b'"') {
            return Ok(self.at < self.text.len());
        }
        Err(self.error(Kind::Gap, self.at))
    }

    // From here on the place is passed and returned, not kept in `self`: so it lives in a register. `next` is
    // the byte there, past any white space.

    // value  = false / null / true / object / array / number / string
    // object = "{" [ member *( "," member ) ] "}"       member = string ":" value
    // array  = "[" [ value *( "," value ) ] "]"
    fn any<S: Sink<'t>>(&mut self, mut at: usize, mut next: u8, sink: &mut S) -> Result<usize, Error> {
        // The stack: for each open bracket, innermost lowest, whether it is an object's.
        let (mut depth, mut objects) = (self.depth, 0_u128);
        loop {
            'value: {
                match next {
                    b'"' => {
                        let string = self.string(at)?;
                        sink.string(string);
                        at = string.to + 1;
                    }
                    b'-' | b'0'..=b'9' => {
                        let number = self.number(at)?;
                        sink.number(number);
                        at = number.to;
                    }
                    b'{' | b'[' => {
                        depth = self.deeper(depth, at)?;
                        objects = objects << 1 | u128::from(next == b'{');
                        sink.begin(next);
                        let close = closing(next);
                        (at, next) = self.space(at + 1, sink);
                        if next != close {
                            break 'value;
                        }
                    }
                    b'n' => at = self.word(at, "null").inspect(|_| sink.null())?,
                    b't' => at = self.word(at, "true").inspect(|_| sink.bool(true))?,
                    b'f' => at = self.word(at, "false").inspect(|_| sink.bool(false))?,
                    _ => return Err(self.error(Kind::Value, at)),
                }
                // A value has ended, and with it perhaps those around it.
                while depth > self.depth {
                    let close = if objects & 1 == 1 { b'}' } else { b']' };
                    (at, next) = self.space(at, sink);
                    if next == b',' {
                        break;
                    }
                    if next != close {
                        return Err(self.error(after_item(close), at));
                    }
                    sink.end(close);
                    at += 1;
                    depth -= 1;
                    objects >>= 1;
                }
                if depth == self.depth {
                    return Ok(at);
                }
                (at, next) = self.space(at + 1, sink);
            }
            if objects & 1 == 1 {
                let name;
                (name, at, next) = self.name(at, next, sink)?;
                sink.name(name);
            }
        }
    }

    /// A member's name; past the colon.
    #[inline(always)]
    fn name<S: Sink<'t>>(&self, at: usize, next: u8, sink: &mut S) -> Result<(Str<'t>, usize, u8), Error> {
        if next != b'"' {
            return Err(self.error(Kind::Name, at));
        }
        let name = self.string(at)?;
        let (at, next) = self.space(name.to + 1, sink);
        if next != b':' {
            return Err(self.error(Kind::Colon, at));
        }
        let (at, next) = self.space(at + 1, sink);
        Ok((name, at, next))
    }

    #[inline(always)]
    fn deeper(&self, depth: usize, bracket: usize) -> Result<usize, Error> {
        if depth < DEPTH_MAX { Ok(depth + 1) } else { Err(self.error(Kind::Depth, bracket)) }
    }

    /// Past white space, and the byte that is next; 0, which no token begins with, at the end.
    #[inline(always)]
    fn space<S: Sink<'t>>(&self, at: usize, sink: &mut S) -> (usize, u8) {
        let next = self.byte(at);
        if next > b' ' {
            return (at, next);
        }
        let end = fast::space(self.text.as_bytes(), at);
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
        at = if self.byte(at) == b'0' { at + 1 } else { self.digits(at, few_digits)? };
        if self.byte(at) == b'.' {
            at = self.digits(at + 1, fast::digits)?;
        }
        if self.byte(at) | 0x20 == b'e' {
            let signed = matches!(self.byte(at + 1), b'-' | b'+');
            at = self.digits(at + 1 + usize::from(signed), few_digits)?;
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
    fn string(&self, quote: usize) -> Result<Str<'t>, Error> {
        let (from, mut to, mut escaped) = (quote + 1, quote + 1, false);
        loop {
            to = fast::plain(self.text.as_bytes(), to);
            match self.text.as_bytes().get(to) {
                Some(b'"') => return Ok(Str { text: self.text, from, to, escaped }),
                Some(b'\\') => to += self.escape(to)?,
                Some(_) => return Err(self.error(Kind::Control, to)),
                None => return Err(self.error(Kind::Quote, to)),
            }
            escaped = true;
        }
    }

    fn escape(&self, at: usize) -> Result<usize, Error> {
        read_escape(&self.text.as_bytes()[at..]).map(|(_, len)| len).map_err(|kind| self.error(kind, at))
    }

    #[cold]
    fn error(&self, kind: Kind, at: usize) -> Error {
        Error::new(kind, self.text, at)
    }
}

/// The bracket that closes this one: in ASCII, `]` is `[` + 2, and `}` is `{` + 2.
fn closing(open: u8) -> u8 {
    open + 2
}

/// What may follow an item of the bracket that this one closes.
fn after_item(close: u8) -> Kind {
    if close == b'}' { Kind::CommaOrBrace } else { Kind::CommaOrBracket }
}

#[inline(always)]
fn few_digits(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// The sink that takes white space out. It listens to nothing else, so a text without any costs no more
/// than checking it.
struct Gaps<'t> {
    text: &'t str,
    /// What has been copied so far; empty until the first gap.
    out: String,
    /// From where on the text has not been copied.
    from: usize,
}

impl<'t> Sink<'t> for Gaps<'t> {
    fn white_space(&mut self, gap: Range<usize>) {
        self.out.push_str(&self.text[self.from..gap.start]);
        self.from = gap.end;
    }
}
