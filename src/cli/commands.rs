//! The commands of `st client`: each asks the server through [`Client`], writes what it got, and
//! ends in an exit code that a script can act on.
//!
//! stdout carries data and nothing else, so that `$(st client get KEY)` is the value; whatever is
//! said about it goes to stderr. Stdin is read only by the commands that say so: in the body of a
//! `while read` loop it belongs to the loop, and a command that read it would eat the lines to
//! come.
//!
//! Each command is an arm of [`Run::carry_out`]. Its errors are the library's, turned into
//! [`Trouble`] by `?`; an arm adds only what the library cannot know, as what `--if` wanted. The
//! commands that follow changes, print lists or send many requests have files of their own.

use std::borrow::Cow;
use std::io::{Read, Write};

use super::bulk::{Style, batch, list, load};
use super::client::{ClientArgs, ClientCommand};
use super::follow;
use super::message::{Exit, Trouble};
use super::{INPUT_BYTES_MAX, Run};
use crate::client::{Answer, ClientError, ReplyProblem};
use crate::json::{JsonText, Value};
use crate::protocol::{Code, Condition, Request};

impl Run<'_> {
    /// Carries out one command. What it wrote before a failure reaches the reader all the same.
    ///
    /// A failed read did nothing, and can be repeated without a thought. Of a write that got no
    /// answer nobody knows whether it was carried out, and the message says so: `increment` twice
    /// is not once.
    pub fn command(&mut self, args: &ClientArgs) -> Result<(), Trouble> {
        let mut done = self.carry_out(args);
        if let (Err(trouble), Some(command)) = (&mut done, &args.command)
            && trouble.exit == Exit::Unknown
            && !only_reads(command)
        {
            trouble.text += "; outcome unknown";
        }
        self.stderr.clear();
        done.and(self.write(b""))
    }

    /// Only a repl gets here without a command, by a line of options alone.
    fn carry_out(&mut self, args: &ClientArgs) -> Result<(), Trouble> {
        use ClientCommand as C;
        let command = args.command.as_ref();
        match command.ok_or_else(|| Trouble::input("a command is needed; 'help' lists them"))? {
            C::Get { key, default } => self.get(args, key, default.as_deref()),
            C::Update { key, value } | C::Add { key, value } => {
                let (condition, value) = (condition(args)?, self.data(args, value)?);
                self.change(args, &Request::Update { key: key.into(), value, condition }).map(drop)
            }
            C::Delete { key } => {
                let request = Request::Delete { key: key.into(), condition: condition(args)? };
                if self.change(args, &request)?.missing { Err(self.no_key(key)) } else { Ok(()) }
            }
            C::Increment { key, by } => self.show(args, &Request::Increment { key: key.into(), by: *by }),
            C::Exists { key } => match self.client.exists(key)? {
                true => Ok(()),
                // In a repl nobody sees an exit code.
                false if self.stdin.is_none() => Err(self.no_key(key)),
                false => Err(Trouble::silent(Exit::No)),
            },
            // Lists are written as they come, so a table of any size goes through.
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

    /// `get`: DEFAULT counts only where the server said that there is no such key. After any
    /// failure it would hide from a script that nobody knows the value.
    fn get(&mut self, args: &ClientArgs, key: &str, default: Option<&str>) -> Result<(), Trouble> {
        // It is looked at before the server is asked, or a script would learn of a slip in it only
        // on the day when the key is missing.
        let default = default.map(|default| value(args, "DEFAULT", default)).transpose()?;
        // A GET goes first, since a server in iterative mode answers no WATCH.
        let found = match self.client.ask(&Request::Get { key: key.into() })?.found() {
            None => follow::wait(self, args, key)?.map(JsonText::from),
            found => found,
        };
        let value = found.or(default).ok_or_else(|| self.no_key(key))?;
        self.print(args, &value)
    }

    /// Asks for a value, and prints it. Nothing is printed of a reply that came in part.
    fn show(&mut self, args: &ClientArgs, request: &Request<'_>) -> Result<(), Trouble> {
        let value = self.client.ask(request)?.value;
        self.print(args, &value)
    }

    /// Asks for a change to a key. Where a condition prevents it, the message tells the value that
    /// does: the server looked at the value and the condition at once, so a second question might
    /// already find another value.
    fn change(&mut self, args: &ClientArgs, request: &Request<'_>) -> Result<Answer, Trouble> {
        self.client.ask(request).map_err(|error| match error {
            ClientError::Refused(_, failure) if failure.code == Code::Conflict => {
                // It could be read when the request was made.
                let wanted = condition(args).ok().flatten();
                let difference = difference(failure.present.flatten().as_ref(), wanted);
                self.no(&format!("conflict: {:?} is {difference}", request.key().unwrap_or_default()))
            }
            error => error.into(),
        })
    }

    /// Runs a program on the server as if it ran here: its output is ours. Only `-j` shows the JSON
    /// that it came in.
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
        // The status itself is not our exit code: from 2 on those have meanings of their own.
        if status == 0 { Ok(()) } else { Err(Trouble::silent(Exit::No)) }
    }

    /// Writes a value: a string as it is, anything else as JSON.
    pub fn print(&mut self, args: &ClientArgs, value: &JsonText<'_>) -> Result<(), Trouble> {
        let mut out = args.plain(value);
        if !args.no_newline {
            out.push('\n');
        }
        self.write(out.as_bytes())
    }

    /// A word as JSON. A dash stands for what stdin brings: a value may be longer than the system
    /// allows a word to be, and the words of a command line can be read by every user of the
    /// machine.
    fn data<'w>(&mut self, args: &ClientArgs, word: &'w str) -> Result<JsonText<'w>, Trouble> {
        if word != "-" {
            return value(args, "the value", word);
        }
        let mut bytes = Vec::new();
        // One byte more than may come tells input that is just long enough from input that is too
        // long.
        let limit = INPUT_BYTES_MAX as u64 + 1;
        self.take_stdin()?.take(limit).read_to_end(&mut bytes).map_err(Trouble::stdin)?;
        if bytes.len() > INPUT_BYTES_MAX {
            return Err(Trouble::input(format!("stdin is longer than {INPUT_BYTES_MAX} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Trouble::input(format!(
                "stdin is not UTF-8 text at byte {at}; other bytes can be stored as base64"
            ))
        })?;
        // `echo` and most files end with a newline that nobody means as a part of the value.
        let text = match text.strip_suffix('\n') {
            Some(text) if !args.no_newline => text,
            _ => &text,
        };
        value(args, "stdin", text).map(JsonText::into_owned)
    }

    /// The server's answer is no. Like every failure, it names the server: a script may talk to
    /// several.
    fn no(&self, what: &str) -> Trouble {
        Trouble { exit: Exit::No, text: format!("{}: {what}", self.client.address()) }
    }

    /// The plainest "no" there is.
    fn no_key(&self, key: &str) -> Trouble {
        self.no(&format!("no key {key:?}"))
    }
}

/// Whether a command leaves the server as it was, whatever becomes of the reply.
fn only_reads(command: &ClientCommand) -> bool {
    use ClientCommand as C;
    match command {
        C::Get { .. } | C::Exists { .. } | C::GetAll { .. } | C::Keys { .. } | C::Count { .. } => true,
        C::Watch { .. } | C::Dump { .. } => true,
        C::Update { .. } | C::Add { .. } | C::Delete { .. } | C::Increment { .. } => false,
        C::Load | C::Batch | C::Call { .. } | C::Exec { .. } => false,
    }
}

/// A word as JSON: with `-j` it must be JSON itself, else it is a string, whatever it looks like.
/// `007` stays `007`.
pub(super) fn value<'w>(args: &ClientArgs, what: &str, word: &'w str) -> Result<JsonText<'w>, Trouble> {
    match args.json {
        true => JsonText::parse(word).map_err(|error| Trouble::input(format!("{what} is not JSON: {error}"))),
        false => Ok(JsonText::string(word)),
    }
}

/// Tells what the value is and what `--if` wanted, with their kinds: the number 1 and the string "1"
/// print alike. A number that is compared without `-j` gets a hint, since no retry will ever succeed.
fn difference(present: Option<&JsonText<'_>>, wanted: Option<Condition<'_>>) -> String {
    let Some(present) = present else { return "missing".into() };
    let is = described(present);
    let Some(Condition::Equals(wanted)) = wanted else { return is };
    let means = |word: Cow<str>| JsonText::parse(&word).is_ok_and(|value| value.same_value(present));
    let hint = if wanted.as_string().is_some_and(means) { ": use -j" } else { "" };
    format!("{is}, not {}{hint}", described(&wanted))
}

/// The beginning of a value, and its kind where that is not plain from it. Valid JSON shows its
/// kind by its first byte.
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

/// What must hold for a write: for `add` that there is no value, else what `--if` says.
///
/// Both are one thing to the server: a condition that it checks under the lock that it writes
/// under. A client that reads first and writes then could be overtaken in between.
fn condition(args: &ClientArgs) -> Result<Option<Condition<'_>>, Trouble> {
    match (&args.command, &args.condition) {
        (Some(ClientCommand::Add { .. }), _) => Ok(Some(Condition::Absent)),
        (_, Some(word)) => value(args, "the value of --if", word).map(Condition::Equals).map(Some),
        (_, None) => Ok(None),
    }
}
