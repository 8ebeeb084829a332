//! The commands of `st client`: each asks the server through [`Client`], writes what it got, and ends
//! in an exit code that a script can act on. Everything is read and written through [`Io`], and stdin
//! only by the commands that say so: inside `while read` loops it belongs to somebody else.

use std::borrow::Cow;
use std::env;
use std::io::{BufWriter, Read, Write};
use std::os::fd::BorrowedFd;

use super::bulk::{Style, batch, list, load};
use super::client::{ClientArgs, ClientCommand};
use super::message::{Messages, Trouble};
use super::{follow, repl};
use crate::client::{Answer, Client, ClientError, ClientOptions, ReplyProblem};
use crate::json::{JsonText, Value};
use crate::protocol::Address;
use crate::protocol::{Code, Condition, Request};
use crate::protocol::{TOKEN_VARIABLE, Token};
use crate::sys;

/// No value from stdin may be longer; the server's own limit is far lower unless it was raised.
pub(super) const INPUT_BYTES_MAX: usize = 64 << 20;
/// Output of any length is written in pieces of about this size.
const OUTPUT_BYTES: usize = 64 << 10;

/// Where the commands read what they are told to, and write data and messages.
#[allow(missing_docs, reason = "said above")]
pub struct Io<'a> {
    pub stdin: &'a mut dyn Read,
    pub stdout: &'a mut dyn Write,
    pub stderr: &'a mut dyn Write,
    /// Stdout once more, where it is a file of the system's: a watch looks whether its reader is gone.
    pub stdout_fd: Option<BorrowedFd<'a>>,
}

/// Does what `args` say, and gives the exit code. `program` is the name to use in messages.
pub fn run<'a>(program: &'a str, args: &ClientArgs, io: Io<'a>) -> u8 {
    let mut stderr = Messages { program, quiet: args.quiet, out: io.stderr, progress: false };
    let client = match client(program, args) {
        Ok(client) => client,
        Err(trouble) => return stderr.report(&trouble),
    };
    let stdout = BufWriter::with_capacity(OUTPUT_BYTES, io.stdout);
    let mut run = Run { client, stdin: Some(io.stdin), stdout, stdout_fd: io.stdout_fd, stderr };
    let done = match args.command {
        None => repl::run(&mut run, args),
        Some(_) => run.command(args),
    };
    done.map_or_else(|trouble| run.stderr.report(&trouble), |()| 0)
}

fn client(program: &str, args: &ClientArgs) -> Result<Client, Trouble> {
    let address = Address::parse(&args.address)
        .map_err(|error| Trouble::input(format!("{error} (see '{program} client --help')")))?;
    let token = Token::find(args.token_file.as_deref(), env::var_os(TOKEN_VARIABLE))?;
    let options = ClientOptions { timeout: args.timeout, retry: args.retry, token };
    Ok(Client::new(address, options))
}

/// What a command works with.
pub(super) struct Run<'a> {
    pub client: Client,
    /// `None` in a session: there the commands come from stdin, and none of them may read it.
    pub stdin: Option<&'a mut dyn Read>,
    pub stdout: BufWriter<&'a mut dyn Write>,
    pub stdout_fd: Option<BorrowedFd<'a>>,
    pub stderr: Messages<'a>,
}

impl<'a> Run<'a> {
    /// Carries out one command. What came before a failure is the reader's all the same.
    pub fn command(&mut self, args: &ClientArgs) -> Result<(), Trouble> {
        let mut done = self.carry_out(args);
        if let (Err(trouble), Some(command)) = (&mut done, &args.command)
            && trouble.code == 4
            && !command.only_reads()
        {
            trouble.text += "; outcome unknown";
        }
        self.stderr.clear();
        done.and(self.write(b""))
    }

    fn carry_out(&mut self, args: &ClientArgs) -> Result<(), Trouble> {
        use ClientCommand as C;
        let command = args.command.as_ref();
        match command.ok_or_else(|| Trouble::input("a command is needed; 'help' lists them"))? {
            C::Get { key, default } => self.get(args, key, default.as_deref()),
            C::Update { key, value } => self.update(args, key, value, condition(args)?),
            C::Add { key, value } => self.update(args, key, value, Some(Condition::Absent)),
            C::Delete { key } => {
                let request = Request::Delete { key: key.into(), condition: condition(args)? };
                if self.change(&request)?.missing { Err(self.no_key(key)) } else { Ok(()) }
            }
            C::Increment { key, by } => self.show(args, &Request::Increment { key: key.into(), by: *by }),
            C::Exists { key } => match self.client.exists(key)? {
                true => Ok(()),
                false if self.stdin.is_none() => Err(self.no_key(key)),
                false => Err(Trouble::silent(1)),
            },
            C::GetAll { prefix } => list(self, prefix, if args.json { Style::Object } else { Style::Tabs }),
            C::Keys { prefix } => list(self, prefix, if args.json { Style::Array } else { Style::Keys }),
            C::Count { prefix } => self.show(args, &Request::Count { prefix: prefix.into() }),
            C::Watch { scope, program } => follow::follow(self, args, scope, program),
            C::Dump { prefix } => list(self, prefix, Style::Dump),
            C::Load => load(self),
            C::Batch => batch(self),
            C::Call { name, data } => {
                let data = data.as_ref().map(|data| self.data(args, data)).transpose()?;
                self.show(args, &Request::Call { name: name.into(), data })
            }
            C::Exec { program } => self.exec(args, program),
        }
    }

    fn get(&mut self, args: &ClientArgs, key: &str, default: Option<&str>) -> Result<(), Trouble> {
        let default = default.map(|default| value(args, "DEFAULT", default)).transpose()?;
        let mut found = self.client.ask(&Request::Get { key: key.into() })?.found();
        // Only now: a server that is not in pool mode has no WATCH.
        if let (None, Some(time)) = (&found, args.wait) {
            found = follow::wait(self, args, key, time)?;
        }
        let value = found.or(default).ok_or_else(|| self.no_key(key))?;
        self.print(args, &value)
    }

    /// Asks for a value, and prints it.
    fn show(&mut self, args: &ClientArgs, request: &Request<'_>) -> Result<(), Trouble> {
        let value = self.client.ask(request)?.value;
        self.print(args, &value)
    }

    fn update(
        &mut self,
        args: &ClientArgs,
        key: &str,
        value: &str,
        condition: Option<Condition<'_>>,
    ) -> Result<(), Trouble> {
        let value = self.data(args, value)?;
        self.change(&Request::Update { key: key.into(), value, condition }).map(drop)
    }

    /// Asks for a change to a key. Where a condition prevents it, what prevents it is told.
    fn change(&mut self, request: &Request<'_>) -> Result<Answer, Trouble> {
        self.client.ask(request).map_err(|error| match error {
            ClientError::Refused(_, failure, present) if failure.code == Code::Conflict => {
                let wanted = match request {
                    Request::Update { condition: Some(Condition::Equals(wanted)), .. }
                    | Request::Delete { condition: Some(Condition::Equals(wanted)), .. } => Some(wanted),
                    _ => None,
                };
                let key = request.key().unwrap_or_default();
                self.no(&format!("conflict: {key:?} is {}", difference(present.as_ref(), wanted)))
            }
            error => error.into(),
        })
    }

    /// The program's output is ours; what is JSON about it only `-j` shows.
    fn exec(&mut self, args: &ClientArgs, program: &[String]) -> Result<(), Trouble> {
        let data = Value::Array(program.iter().map(String::as_str).collect());
        let value = self.client.call("EXEC", data)?;
        let part = |name| value.get(name).and_then(Value::as_str);
        let status = value.get("status").and_then(Value::as_number).and_then(|status| status.as_i64());
        let (Some(status), Some(stdout), Some(stderr)) = (status, part("stdout"), part("stderr")) else {
            let lacks = ReplyProblem::Mismatch("it lacks a status, stdout and stderr");
            return Err(ClientError::BadReply(self.client.address().to_string(), lacks).into());
        };
        if args.json {
            self.print(args, &JsonText::from(&value))?;
        } else {
            self.write(stdout.as_bytes())?;
            let _ = self.stderr.out.write_all(stderr.as_bytes());
        }
        if status == 0 { Ok(()) } else { Err(Trouble::silent(1)) }
    }

    /// Writes a value: a string as it is, anything else as JSON.
    pub fn print(&mut self, args: &ClientArgs, value: &JsonText<'_>) -> Result<(), Trouble> {
        let mut out = plain(args, value);
        if !args.no_newline {
            out.push('\n');
        }
        self.write(out.as_bytes())
    }

    /// Writes data, to the last byte.
    pub fn write(&mut self, data: &[u8]) -> Result<(), Trouble> {
        self.stdout.write_all(data).and_then(|()| self.stdout.flush()).map_err(Trouble::output)
    }

    /// Whether what we write has no reader any more, as a write would find out.
    pub fn reader_is_gone(&self) -> bool {
        self.stdout_fd.is_some_and(sys::hung_up)
    }

    /// A word as JSON, or where it is a dash, stdin.
    fn data<'w>(&mut self, args: &ClientArgs, word: &'w str) -> Result<JsonText<'w>, Trouble> {
        if word != "-" {
            return value(args, "the value", word);
        }
        let text = self.read_stdin()?;
        let text = match text.strip_suffix('\n') {
            Some(text) if !args.no_newline => text,
            _ => &text,
        };
        value(args, "stdin", text).map(JsonText::into_owned)
    }

    fn read_stdin(&mut self) -> Result<String, Trouble> {
        let mut bytes = Vec::new();
        let limit = INPUT_BYTES_MAX as u64 + 1;
        self.take_stdin()?.take(limit).read_to_end(&mut bytes).map_err(Trouble::stdin)?;
        if bytes.len() > INPUT_BYTES_MAX {
            return Err(Trouble::input(format!("stdin is longer than {INPUT_BYTES_MAX} bytes")));
        }
        String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Trouble::input(format!(
                "stdin is not UTF-8 text at byte {at}; other bytes can be stored as base64"
            ))
        })
    }

    /// Stdin, for the one command that reads it.
    pub fn take_stdin(&mut self) -> Result<&'a mut dyn Read, Trouble> {
        let text = "in a session stdin holds the commands, and no command can read it";
        self.stdin.take().ok_or_else(|| Trouble::input(text))
    }

    fn no(&self, what: &str) -> Trouble {
        Trouble { code: 1, text: format!("{}: {what}", self.client.address()) }
    }

    fn no_key(&self, key: &str) -> Trouble {
        self.no(&format!("no key {key:?}"))
    }
}

/// A word as JSON: with `-j` it must be JSON itself, else it is a string, whatever it looks like.
pub(super) fn value<'w>(args: &ClientArgs, what: &str, word: &'w str) -> Result<JsonText<'w>, Trouble> {
    match args.json {
        true => JsonText::parse(word).map_err(|error| Trouble::input(format!("{what} is not JSON: {error}"))),
        false => Ok(JsonText::string(word)),
    }
}

/// A value as it is written: with `-j` as JSON, else a string as it is.
pub(super) fn plain(args: &ClientArgs, value: &JsonText<'_>) -> String {
    match value.as_string() {
        Some(string) if !args.json => string.into_owned(),
        _ => value.as_str().to_owned(),
    }
}

/// What the value is and what `--if` wanted, with their kinds: the number 1 and the string "1" print alike.
fn difference(present: Option<&JsonText<'_>>, wanted: Option<&JsonText<'_>>) -> String {
    let Some(present) = present else { return "missing".into() };
    let is = described(present);
    let Some(wanted) = wanted else { return is };
    let means = |word: Cow<str>| JsonText::parse(&word).is_ok_and(|value| value.same_value(present));
    let hint = if wanted.as_string().is_some_and(means) { ": use -j" } else { "" };
    format!("{is}, not {}{hint}", described(wanted))
}

/// The beginning of a value, and its kind where that is not plain from it.
fn described(value: &JsonText<'_>) -> String {
    let value = value.as_str();
    let kind = match value.as_bytes().first() {
        Some(b'"') => "the string ",
        Some(b'[') => "the array ",
        Some(b'{') => "the object ",
        Some(b'-' | b'0'..=b'9') => "the number ",
        _ => "",
    };
    format!("{kind}{value:.256}")
}

fn condition(args: &ClientArgs) -> Result<Option<Condition<'_>>, Trouble> {
    let present = args.condition.as_deref().map(|word| value(args, "the value of --if", word));
    Ok(present.transpose()?.map(Condition::Equals))
}
