//! The grammar of RFC 8259, once.
//!
//! Read [`Parser::any`] first: it is the grammar of values, arrays and objects, which contain each other. Below it
//! stands a function for each smaller rule (`name`, `number`, `string`), and the rule itself as a comment above
//! it. Above it stands what callers use:
//!
//! - [`Parser::value`] pushes: it reads a whole value and tells a [`Sink`] of each thing that it meets.
//! - [`Parser::object`] and [`Parser::array`] are pulled: they call back for each item, and the caller decides
//!   how to read it. A request is read so, since most of its members are kept as text or passed over.
//!
//! The parser does not read from files or sockets: all of the text is there, as a `&str`, which proves that it
//! is UTF-8. So no rule below has to think of half a character, or of more text that may come.

use std::borrow::Cow;
use std::ops::Range;

use super::text::{Gaps, JsonText, Str, read_escape};
use super::{Error, Kind, fast};

/// How deep arrays and objects may nest: 128 brackets are accepted, one more is an error.
pub const DEPTH_MAX: usize = 128;

/// A sink is told what the parser meets, in order. A method does nothing unless the sink overrides it.
///
/// This is what keeps one grammar for all readers: those that build a tree, that compact a text and that only
/// check one differ in their sink. The compiler makes a parser of its own for each, without the calls that do
/// nothing.
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

/// The sink that does nothing. A parser that tells it everything only checks the text.
impl Sink<'_> for () {}

/// A parser at some place in a text. After an error it is at no place in particular: drop it.
#[derive(Debug)]
pub struct Parser<'t> {
    text: &'t str,
    /// Where the parser stands, in bytes.
    at: usize,
    /// How many brackets are open here that callers of `object` and `array` have entered.
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

    /// The items of an array or object, between brackets and parted by commas. `otherwise` is the error where
    /// the opening bracket is missing.
    ///
    /// An `item` that consumes nothing cannot make this loop for ever: what it left is neither a comma nor
    /// the closing bracket.
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

    /// One value as text less white space. The text is borrowed where it held none, so a request that was sent
    /// compact, as programs do, is checked and never copied.
    pub fn compact(&mut self) -> Result<JsonText<'t>, Error> {
        self.peek();
        let mut gaps = Gaps { text: self.text, out: String::new(), from: self.at };
        self.value(&mut gaps)?;
        let rest = &self.text[gaps.from..self.at];
        let text = if gaps.out.is_empty() { Cow::Borrowed(rest) } else { Cow::Owned(gaps.out + rest) };
        Ok(JsonText::trusted(text))
    }

    /// As [`compact`](Parser::compact), for a value that will stand `levels` deeper elsewhere. It is refused here
    /// if it would be too deep there: a client that stored it could never read the reply that holds it.
    pub(crate) fn compact_with_room(&mut self, levels: usize) -> Result<JsonText<'t>, Error> {
        self.depth += levels;
        let text = self.compact();
        self.depth -= levels;
        text
    }

    /// A string, or `None` where the next value is anything else.
    pub fn string(&mut self) -> Result<Option<Str<'t>>, Error> {
        if self.peek() != b'"' {
            return Ok(None);
        }
        let string = self.string_at(self.at)?;
        self.at = string.to + 1;
        Ok(Some(string))
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

    /// Where the parser stands, in bytes from the start of the text.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    /// Nothing but white space may be left.
    pub fn end(&mut self) -> Result<(), Error> {
        self.peek();
        if self.at == self.text.len() { Ok(()) } else { Err(self.error(Kind::End, self.at)) }
    }

    /// Whether another value follows in a stream of them. White space must part the two, or a bracket or quote
    /// must stand on either side: `01` and `nullnull` may be one value or two, so they are refused.
    pub fn another(&mut self) -> Result<bool, Error> {
        let (end, next) = (self.at, self.peek());
        let closed = matches!(self.byte(end.saturating_sub(1)), b']' | b'}' | b'"');
        if self.at == self.text.len() || closed || self.at > end || matches!(next, b'[' | b'{' | b'"') {
            return Ok(self.at < self.text.len());
        }
        Err(self.error(Kind::Gap, self.at))
    }

    // From here on the place in the text is an argument and a result, `at`, and not kept in `self`, so that it
    // stays in a register. `next` is the byte at that place, which is never white space.

    /// One value, whose first byte is `next`. Gives the place behind it.
    ///
    /// Recursive descent would be a function for arrays that calls the one for values, and back; what its
    /// frames remember on the call stack is which kind of bracket is open, a bit a level. Here `objects` is
    /// that stack. A hostile text cannot overflow it, and a level takes a bit where a frame takes 100 bytes.
    //
    // value  = false / null / true / object / array / number / string
    // object = "{" [ member *( "," member ) ] "}"       member = string ":" value
    // array  = "[" [ value *( "," value ) ] "]"
    fn any<S: Sink<'t>>(&mut self, mut at: usize, mut next: u8, sink: &mut S) -> Result<usize, Error> {
        // For each open bracket, the innermost in the lowest bit: is it an object's?
        let (mut depth, mut objects) = (self.depth, 0_u128);
        loop {
            // A value begins at `at`. The block is left early where a bracket opens and does not close at once.
            'value: {
                match next {
                    b'"' => {
                        let string = self.string_at(at)?;
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
                // The value has ended. A comma leads to the next item; each closing bracket ends one more value.
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
            // In an object, the item that follows begins with its name.
            if objects & 1 == 1 {
                let name;
                (name, at, next) = self.name(at, next, sink)?;
                sink.name(name);
            }
        }
    }

    /// The name of a member, and the place and first byte of its value, behind the colon.
    #[inline(always)]
    fn name<S: Sink<'t>>(&self, at: usize, next: u8, sink: &mut S) -> Result<(Str<'t>, usize, u8), Error> {
        if next != b'"' {
            return Err(self.error(Kind::Name, at));
        }
        let name = self.string_at(at)?;
        let (at, next) = self.space(name.to + 1, sink);
        if next != b':' {
            return Err(self.error(Kind::Colon, at));
        }
        let (at, next) = self.space(at + 1, sink);
        Ok((name, at, next))
    }

    /// The depth inside the bracket at this place.
    #[inline(always)]
    fn deeper(&self, depth: usize, bracket: usize) -> Result<usize, Error> {
        if depth < DEPTH_MAX { Ok(depth + 1) } else { Err(self.error(Kind::Depth, bracket)) }
    }

    /// The place past white space, and the byte there. At the end of the text that is 0, which no rule accepts, so
    /// the rules need no check of their own for the end.
    //
    // ws = *( %x20 / %x09 / %x0A / %x0D )
    #[inline(always)]
    fn space<S: Sink<'t>>(&self, at: usize, sink: &mut S) -> (usize, u8) {
        let next = self.byte(at);
        // Compact text has no white space, and then this one comparison is all that looking for it costs.
        if next > b' ' {
            return (at, next);
        }
        let end = fast::space(self.text.as_bytes(), at);
        if end > at {
            sink.white_space(at..end);
        }
        (end, self.byte(end))
    }

    /// The byte at this place, or 0 at the end.
    #[inline(always)]
    fn byte(&self, at: usize) -> u8 {
        self.text.as_bytes().get(at).copied().unwrap_or(0)
    }

    /// `null`, `true` or `false`, of which the first letter has been seen.
    #[inline(always)]
    fn word(&self, at: usize, word: &str) -> Result<usize, Error> {
        let found = self.text.as_bytes()[at..].starts_with(word.as_bytes());
        if found { Ok(at + word.len()) } else { Err(self.error(Kind::Value, at)) }
    }

    /// A number is checked and not computed: nobody can say yet which type would hold it.
    //
    // number = [ "-" ] int [ "." 1*DIGIT ] [ ( "e" / "E" ) [ "-" / "+" ] 1*DIGIT ]
    // int    = "0" / ( digit1-9 *DIGIT )          So 01 is a 0, and behind it stands what is no comma.
    #[inline(always)]
    fn number(&self, from: usize) -> Result<Str<'t>, Error> {
        let mut at = from + usize::from(self.byte(from) == b'-');
        at = if self.byte(at) == b'0' { at + 1 } else { self.digits(at, fast::few_digits)? };
        if self.byte(at) == b'.' {
            at = self.digits(at + 1, fast::digits)?;
        }
        if self.byte(at) | 0x20 == b'e' {
            let signed = matches!(self.byte(at + 1), b'-' | b'+');
            at = self.digits(at + 1 + usize::from(signed), fast::few_digits)?;
        }
        Ok(Str { text: self.text, from, to: at, escaped: false })
    }

    /// At least one digit; `run` finds the last.
    #[inline(always)]
    fn digits(&self, at: usize, run: fn(&[u8], usize) -> usize) -> Result<usize, Error> {
        let end = run(self.text.as_bytes(), at);
        if end == at { Err(self.error(Kind::Digit, at)) } else { Ok(end) }
    }

    /// A string, its escapes checked and left as they are. Most strings are only compared or passed on.
    //
    // string = %x22 *char %x22
    #[inline(always)]
    fn string_at(&self, quote: usize) -> Result<Str<'t>, Error> {
        let (from, mut to, mut escaped) = (quote + 1, quote + 1, false);
        loop {
            to = fast::plain(self.text.as_bytes(), to);
            match self.text.as_bytes().get(to) {
                Some(b'"') => return Ok(Str { text: self.text, from, to, escaped }),
                Some(b'\\') => match read_escape(&self.text.as_bytes()[to..]) {
                    Ok((_, len)) => to += len,
                    Err(kind) => return Err(self.error(kind, to)),
                },
                Some(_) => return Err(self.error(Kind::Control, to)),
                None => return Err(self.error(Kind::Quote, to)),
            }
            escaped = true;
        }
    }

    /// Counts lines and columns from the start of the text. It is called once for each text that is refused.
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
