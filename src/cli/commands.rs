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

use std::io::{Read, Write};

use super::bulk::{self, Style, batch, list, load};
use super::client::{ClientArgs, ClientCommand};
use super::message::{Exit, Trouble};
use super::wait::{Repeat, difference, value};
use super::{INPUT_BYTES_MAX, Run};
use super::{follow, hold};
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
            C::Update { key, value } => {
                let (condition, value) = (condition(args)?, self.data(args, value)?);
                self.change(args, &Request::Update { key: key.into(), value, condition, ttl: args.ttl })
                    .map(drop)
            }
            C::Add { key, value } => {
                let (condition, value) = (Some(Condition::Absent), self.data(args, value)?);
                let request = Request::Update { key: key.into(), value, condition, ttl: args.ttl };
                self.add(args, key, &request, Repeat::Undone).map(drop)
            }
            C::Hold { key, value, program } => hold::hold(self, args, key, value.as_deref(), program),
            C::Delete { keys } => self.delete(args, keys),
            C::DeletePrefix { prefix } => {
                let deleted = bulk::delete(self, prefix, |_| true)?;
                self.print(args, &JsonText::trusted(deleted.to_string()))
            }
            C::Take { scope } => self.take(args, scope),
            C::Ttl { key } => {
                let left = self.client.ask(&Request::Ttl { key: key.into() })?.found();
                self.print(args, &left.ok_or_else(|| self.no_key(key))?)
            }
            C::Increment { key, by } => {
                self.show(args, &Request::Increment { key: key.into(), by: *by, ttl: args.ttl })
            }
            C::Exists { key } => match self.client.exists(key)? {
                true => Ok(()),
                // In a repl nobody sees an exit code.
                false if self.stdin.is_none() => Err(self.no_key(key)),
                false => Err(Trouble::silent(Exit::No)),
            },
            // Lists are written as they come, so a table of any size goes through.
            C::GetAll { prefix } => list(self, prefix, if args.json { Style::Object } else { Style::Tabs }),
            C::Keys { prefix } => list(self, prefix, if args.json { Style::Array } else { Style::Keys }),
            C::Count { prefix, until } => self.count(args, prefix, *until),
            C::Watch { scope, program } => follow::follow(self, args, scope, program),
            C::Dump { prefix } => list(self, prefix, Style::Dump),
            C::Load => load(self, args),
            C::Batch => batch(self),
            C::Call { name, data } => {
                let data = data.as_ref().map(|data| self.data(args, data)).transpose()?;
                self.show(args, &Request::Call { name: name.into(), data })
            }
            C::Exec { program } => self.exec(args, program),
        }
    }

    /// `delete`. A key that is missing is told, and those behind it are deleted all the same.
    fn delete(&mut self, args: &ClientArgs, keys: &[String]) -> Result<(), Trouble> {
        let mut missing = None;
        for key in keys {
            let request = Request::Delete { key: key.into(), condition: condition(args)? };
            if self.change(args, &request)?.missing
                && let Some(before) = missing.replace(self.no_key(key))
            {
                self.stderr.report(&before);
            }
        }
        missing.map_or(Ok(()), Err)
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
        let data = match program {
            // Few programs' names look so, and a shell's lines do.
            [line] if line.contains(|c: char| c.is_whitespace() || "|&;<>()$`'\"\\*?".contains(c)) => {
                Value::from(line.as_str())
            }
            words => Value::Array(words.iter().map(String::as_str).collect()),
        };
        let value = self.client.call("EXEC", data)?;
        let part = |name| value.get(name).and_then(Value::as_str);
        let status = value.get("status").and_then(Value::as_i64);
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
}

/// Whether a command leaves the server as it was, whatever becomes of the reply.
fn only_reads(command: &ClientCommand) -> bool {
    use ClientCommand as C;
    match command {
        C::Get { .. } | C::Exists { .. } | C::GetAll { .. } | C::Keys { .. } | C::Count { .. } => true,
        C::Watch { .. } | C::Dump { .. } | C::Ttl { .. } => true,
        // What becomes of its key, the lease decides.
        C::Hold { .. } => true,
        C::Update { .. } | C::Add { .. } | C::Delete { .. } | C::Increment { .. } => false,
        C::DeletePrefix { .. } | C::Take { .. } => false,
        C::Load | C::Batch | C::Call { .. } | C::Exec { .. } => false,
    }
}

/// What must hold for a write, as `--if` says. The server checks it under the turn that it writes
/// under: a client that reads first and writes then could be overtaken in between.
fn condition(args: &ClientArgs) -> Result<Option<Condition<'_>>, Trouble> {
    let read = |word: &String| Ok(Condition::Equals(value(args, "the value of --if", word)?.into_owned()));
    args.condition.as_ref().map(read).transpose()
}
