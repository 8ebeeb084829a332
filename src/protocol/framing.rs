//! Framing: cutting the stream of bytes into requests, in whichever dialect the client speaks.
//!
//! One read from a socket may bring half a request, or three and a half, so something in the bytes themselves must
//! say where a request ends: a JSON object ends at its closing brace, a line at its newline, and a frame says its
//! length first. The first byte that is not white space chooses the dialect for the whole connection: `{` JSON, a
//! letter or `&` text lines, a digit frames. White space before a request belongs to no request.
//!
//! Three answers, not two: a request that is incomplete is not a wrong one. And where the framing itself is wrong,
//! nobody can say where the next request begins, so the connection cannot go on; a request that is well framed
//! and makes no sense costs its sender one error reply.
//!
//! Most requests are a short line of JSON, and all there. Such a line is parsed at once, and the parser comes by the
//! request's end anyway. All else is cut out first and then parsed: what is long, has come in pieces, is spread over
//! lines, or is no JSON.
//!
//! Whatever is incomplete is not looked at twice: scanner and line remember how far they have looked. A client who
//! sends a megabyte byte by byte would otherwise cost the server 500,000,000,000 looks.

use std::ops::Range;

use super::{Code, Failure, Form, HEADER_BYTES, Request};
use crate::json::{Scan, Scanner, newline};

/// How far a line of JSON may reach to be parsed at once. So many objects on one line do not make each of them cost a
/// look at all of it, and a long line costs this look in vain.
const LINE_BYTES_MAX: usize = 256;

/// The next request in the buffer, as far as it has come.
#[derive(Debug, PartialEq)]
pub enum Frame<'d> {
    /// It is all there, a JSON object, and was read on the way to its end.
    Read {
        /// What it says, or why it makes no sense.
        request: Result<Request<'d>, Failure>,
        /// Where the next one begins.
        next: usize,
    },
    /// It is all there.
    Complete {
        /// Where its own bytes are.
        payload: Range<usize>,
        /// Where the next one begins.
        next: usize,
    },
    /// More bytes are needed.
    Incomplete,
    /// Nobody can say where the next one begins: one error reply, then the end.
    Lost(Failure),
    /// A web browser is talking. It may be doing so for a page that means harm: no reply, the end.
    Http,
}

/// Cuts one connection's requests out of its bytes.
#[derive(Default)]
pub struct Framer {
    /// How the first request looked, which tells the dialect.
    dialect: Option<Form>,
    scanner: Scanner,
    /// Of the line that is being received, the bytes known to hold no newline.
    no_newline: usize,
    /// A first line has been seen, so no HTTP request can begin any more.
    past_first_line: bool,
}

impl Framer {
    /// Looks for a request at the start of `data`, which has no white space before it, is not empty
    /// and goes on where it was left if the last answer was `Incomplete`. `ended`: no more will come.
    pub fn next<'d>(&mut self, data: &'d [u8], ended: bool, request_bytes_max: usize) -> Frame<'d> {
        let line = self.json_line(data, request_bytes_max);
        if let Some((request, next)) = line.and_then(Request::parse_first) {
            self.dialect = Some(Form::Json);
            return Frame::Read { request, next };
        }
        let dialect = match (self.dialect, data[0]) {
            (Some(dialect), _) => dialect,
            (None, b'{') => Form::Json,
            (None, b'a'..=b'z' | b'A'..=b'Z' | b'&') => Form::Line,
            (None, b'0'..=b'9') => Form::FramedJson,
            (None, other) => {
                let other = std::ascii::escape_default(other);
                let message = format!(
                    "no request begins with the byte \"{other}\": send a JSON object such as \
                     {{\"request\":\"GET\",\"key\":\"door\"}}, or a line such as GET door"
                );
                return lost(Code::BadJson, message);
            }
        };
        self.dialect = Some(dialect);
        let (frame, bytes) = match dialect {
            Form::Json => (self.json(data), data.len()),
            // A carriage return at the end may turn out to belong to the line's end, which is not counted.
            Form::Line => (self.line(data, ended), data.strip_suffix(b"\r").unwrap_or(data).len()),
            // A frame states its length, and was judged by that.
            Form::FramedJson | Form::FramedBare => (framed(data, request_bytes_max), 0),
        };
        match frame {
            Frame::Complete { payload, .. } if payload.len() > request_bytes_max => {
                too_large(request_bytes_max)
            }
            Frame::Incomplete if bytes > request_bytes_max => too_large(request_bytes_max),
            // Half a line that ended is a line, but half an object or frame may lack what mattered most.
            Frame::Incomplete if ended => lost(Code::BadRequest, "the input ends within a request"),
            frame => frame,
        }
    }

    /// How a reply to this payload must look; without one, how a reply to the connection. A frame is answered by what
    /// it held: micro-client-server's clients want the bare value, and those that frame JSON want JSON.
    pub fn form(&self, payload: Option<&[u8]>) -> Form {
        match (self.dialect.unwrap_or(Form::Json), payload) {
            (Form::FramedJson, Some(payload)) if !payload.starts_with(b"{") => Form::FramedBare,
            (dialect, _) => dialect,
        }
    }

    /// The line that stands first, where it may hold a whole request in JSON that nobody has looked at yet. A line that
    /// was cut off seldom ends in a brace, and then is not parsed in vain. With every request cut out first, a GET or
    /// an UPDATE takes 12% more instructions.
    fn json_line<'d>(&self, data: &'d [u8], request_bytes_max: usize) -> Option<&'d str> {
        let is_json = data[0] == b'{' && self.dialect.unwrap_or(Form::Json) == Form::Json;
        if !is_json || !self.scanner.is_new() {
            return None;
        }
        let near = &data[..data.len().min(LINE_BYTES_MAX).min(request_bytes_max)];
        let line = near[..newline(near)].trim_ascii_end();
        line.ends_with(b"}").then(|| str::from_utf8(line).ok()).flatten()
    }

    fn json(&mut self, data: &[u8]) -> Frame<'static> {
        if data[0] != b'{' {
            return lost(Code::BadJson, "a request is a JSON object, so the next byte must be \"{\"");
        }
        match self.scanner.scan(data) {
            Scan::Complete(end) => Frame::Complete { payload: 0..end, next: end },
            Scan::Incomplete => Frame::Incomplete,
            Scan::Lost(at) => lost(
                Code::BadJson,
                format!("byte {at} is {:?}, which does not close what was opened last", data[at] as char),
            ),
        }
    }

    fn line(&mut self, data: &[u8], ended: bool) -> Frame<'static> {
        let end = self.no_newline + newline(&data[self.no_newline..]);
        if end == data.len() && !ended {
            self.no_newline = end;
            return Frame::Incomplete;
        }
        self.no_newline = 0;
        // Telnet and Windows end lines by both.
        let line = data[..end].strip_suffix(b"\r").unwrap_or(&data[..end]);
        let is_first = !std::mem::replace(&mut self.past_first_line, true);
        if is_host_header(line) || is_first && is_http_request(line) {
            return Frame::Http;
        }
        Frame::Complete { payload: 0..line.len(), next: data.len().min(end + 1) }
    }
}

/// A frame: a header of decimal digits, then spaces, 64 bytes in all; then as many bytes of payload. One that is too
/// large is refused when its header is there, before the rest has come.
fn framed(data: &[u8], request_bytes_max: usize) -> Frame<'static> {
    let header = &data[..data.len().min(HEADER_BYTES)];
    let digits = header.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || header[digits..].iter().any(|&byte| byte != b' ') {
        let message = "a frame's header must be its length in decimal digits, padded with spaces to 64 bytes";
        return lost(Code::BadRequest, message);
    }
    let Some(payload) = data.get(HEADER_BYTES..) else { return Frame::Incomplete };
    // A number that is too large for a `usize` is larger than any limit, too.
    let append = |n: usize, digit: &u8| n.saturating_mul(10).saturating_add(usize::from(digit - b'0'));
    let length = header[..digits].iter().fold(0, append);
    if length > request_bytes_max {
        return too_large(request_bytes_max);
    }
    let Some(payload) = payload.get(..length) else { return Frame::Incomplete };
    // A line may be framed with its end, and white space before a request belongs to none.
    let space = payload.iter().take_while(|b| b.is_ascii_whitespace()).count();
    let line = payload.strip_suffix(b"\n").unwrap_or(payload);
    let end = HEADER_BYTES + line.strip_suffix(b"\r").unwrap_or(line).len();
    Frame::Complete { payload: (HEADER_BYTES + space).min(end)..end, next: HEADER_BYTES + length }
}

/// Whether this is the first line of an HTTP request: it ends in ` HTTP/` and a version. HTTP servers are
/// lenient about case and about spaces at the end, so we must be as well.
///
/// Any web page can have its reader's browser send a POST to 127.0.0.1:7777, from inside a firewall. Each header
/// would be an unknown request to us, answered by an error and forgotten; but the body is the page's to write, and
/// its lines would be carried out. So a connection that speaks HTTP is closed before any of it is.
fn is_http_request(line: &[u8]) -> bool {
    let line = line.trim_ascii_end();
    let version = line.iter().rev().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
    let name = line[..line.len() - version].last_chunk::<6>();
    version > 0 && name.is_some_and(|name| name.eq_ignore_ascii_case(b" HTTP/"))
}

/// Whether this is the header that every HTTP request has, on whichever line. No request of ours has a name
/// with a colon.
fn is_host_header(line: &[u8]) -> bool {
    line.first_chunk::<5>().is_some_and(|name| name.eq_ignore_ascii_case(b"Host:"))
}

fn too_large(request_bytes_max: usize) -> Frame<'static> {
    lost(
        Code::TooLarge,
        format!("a request may have {request_bytes_max} bytes here: the server's --max-request"),
    )
}

fn lost(code: Code, message: impl Into<String>) -> Frame<'static> {
    Frame::Lost(Failure::new(code, message))
}
