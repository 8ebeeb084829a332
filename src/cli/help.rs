//! The help texts.
//!
//! What they say of commands, options and exit codes comes from the tables that the rest of this
//! room works by, and what they say of requests from the table of the actions. A new option or
//! command is therefore in the help as soon as it exists. Only what no table knows is written here:
//! how the parts belong together, and an example to start from.
//!
//! `{st}` stands for the name that the program was called by, so that every line can be typed as it
//! stands. No line is longer than 100 characters, and nothing depends on a terminal: help is often
//! read through a pipe.

use super::client;
use super::grammar::{COMMANDS, CommandRow};
use super::message::{Exit, Topic};
use super::words::Opt;
use super::{bench, journal, json, server};
use crate::actions::Actions;
use crate::protocol::Spec;

/// `st --help` has to fit on a screen with room to spare: it is what somebody sees first.
const PROGRAM: &str = "\
{st}: a JSON-over-TCP table in memory, and its client

  {st} server [OPTIONS] [ADDR]     serve a table
  {st} client [OPTIONS] COMMAND …  ask a server
  {st} bench [OPTIONS] [ADDR]      load a server, and measure it
  {st} json [OPTIONS] [FILE]       check or reformat JSON
  {st} journal check|repair FILE   look at a server's journal
  {st} --version

Try it, in two terminals:

  {st} server
  {st} client update door open && {st} client get door

More: --help after each of these
";

/// `{requests}` and `{options}` stand for lines made from tables, here and below.
const SERVER: &str = "\
{st} server [OPTIONS] [ADDR]: serve a table

ADDR is PORT, HOST:PORT, [IPV6]:PORT, or a service's name from /etc/services or the file that
ST_SERVICES names. Without a host it listens on 127.0.0.1, without ADDR on port 7777; port 0 takes
a free one. The address is the first line on stdout; logs go to stderr.

{options}
Sizes take K, M and G (1,024s); times are seconds, decimals allowed.

What clients can ask, beside what --action adds:
{requests}
Exit: 2 usage; 6 it cannot listen there, or a file cannot be used.
";

/// The exit codes follow behind it.
const CLIENT: &str = "\
{st} client [OPTIONS] COMMAND …: ask a server

Commands:
{commands}  help COMMAND                       explain one of these, with an example
  (none)                             a session: a command a line from stdin

In a session words are quoted as in a shell, and # begins a comment line. It also takes the wire's
words in any case (GET door), and the names of the server's actions with their data. 'quit', 'exit'
and 'close' end it. On a terminal it goes on after an error; in a pipe the first error ends it,
whether of the words or of the server, with its exit code and the number of its line.

Options, before KEY:
{options}
After KEY words are data: '{st} client update temp -5' stores -5. A word that is exactly an option of
the command is refused there, unless '--' came before. A key that begins with a dash comes after
'--', too. Values are strings, unless -j is given.

Exit:
";

/// What is measured, and what it leaves behind.
const BENCH: &str = "\
{st} bench [OPTIONS] [ADDR]: load a server, and measure it

  {st} bench                          a server of its own, in this process
  {st} bench -c 1000 -P 16 box:7777   how 1,000 clients fare that send 16 requests at a time

Each connection sends requests, waits for all of their replies, and sends the next ones. Told are
requests a second and, of the times from sending to the last reply, the median (p50), what 1% and
0.1% of them exceed (p99, p99.9), and the longest. A tenth of the load goes before it uncounted.
The keys, bench:0000000000 and so on, are set before, and at ADDR deleted afterwards. Every reply is
compared with what it must be.

{options}
Sizes take K, M and G (1,024s); times are seconds, decimals allowed. Ctrl-C ends it, and what was
counted is told.

Exit: 0; 1 interrupted before anything was counted; 2 usage; 3 cannot connect; 4 connection lost, or
no reply for 5 s; 5 refused, or replies were wrong; 6 local input or output failed.
";

/// The examples are pipes, since that is what this command is for.
const JSON: &str = "\
{st} json [OPTIONS] [FILE]: check or reformat JSON from FILE or stdin

  {st} client info | {st} json
  {st} client dump | {st} json -c

It takes one value or many, one after another. Nothing is written before all have been read.

{options}
Exit: 0 it is JSON; 1 it is not (stderr tells line and column), or nothing is where POINTER leads;
2 usage; 6 input or output failed.
";

/// Two verbs, which have no options of their own.
const JOURNAL: &str = "\
{st} journal check FILE: what a journal holds, where it ends, and whether it is whole
{st} journal repair FILE: keep what is good of it, and move the rest to FILE.broken

What a crash leaves, a server clears away by itself. It refuses a journal in which records that had
been durable are damaged: then restore a copy, or let repair keep those before them.

{options}
Exit: 0 it is whole, or was repaired; 1 it is not whole; 2 usage; 6 in use, or cannot be read.
";

/// The text for a topic; `program` is the name that the program was called by.
pub fn help(program: &str, topic: Topic) -> String {
    let text = match topic {
        Topic::Program => PROGRAM.into(),
        // A registry that nobody has added to: these are the requests of every server.
        Topic::Server => {
            let requests = Actions::default().specs().map(request).collect::<String>();
            SERVER.replace("{requests}", &requests).replace("{options}", &options(server::OPTIONS, None))
        }
        Topic::Client => {
            let commands = COMMANDS.iter().map(|row| {
                let alias: String = row.names[1..].iter().map(|alias| format!(" ({alias})")).collect();
                format!("  {:<34} {}{alias}\n", format!("{} {}", row.names[0], row.operands), row.about)
            });
            let text = CLIENT.replace("{commands}", &commands.collect::<String>());
            text.replace("{options}", &options(client::OPTIONS, None)) + &exits(&Exit::MEANINGS)
        }
        // The parser found the name in the same table.
        Topic::ClientCommand(name) => {
            COMMANDS.iter().find(|row| row.names[0] == name).map(command).unwrap_or_default()
        }
        Topic::Bench => BENCH.replace("{options}", &options(bench::OPTIONS, None)),
        Topic::Json => JSON.replace("{options}", &options(json::OPTIONS, None)),
        Topic::Journal => JOURNAL.replace("{options}", &options(journal::OPTIONS, None)),
    };
    text.replace("{st}", program)
}

/// A line a request: `GET KEY   what it does`.
fn request(Spec { name, args, help }: Spec<'_>) -> String {
    format!("  {:<28} {help}\n", format!("{name} {args}"))
}

/// The page of one command: what it is, what else there is to know, an example, its options, its
/// exit codes.
fn command(row: &CommandRow) -> String {
    let CommandRow { about, example, .. } = row;
    let usage = format!("{{st}} client [OPTIONS] {} {}", row.names[0], row.operands);
    let alias: String = row.names[1..].iter().map(|alias| format!("It is also called {alias}.\n")).collect();
    let more = if row.more.is_empty() { String::new() } else { format!("{}\n", row.more) };
    let gap = if alias.is_empty() && more.is_empty() { "" } else { "\n" };
    let options = options(client::OPTIONS, Some(row.names[0]));
    // A command without operands leaves a space there.
    let usage = usage.trim_end();
    format!("{usage}: {about}\n\n{alias}{more}{gap}  {{st}} client {example}\n\n{options}\nExit:\n")
        + &exits(row.exits)
}

/// A line an option: `-a, --addr ADDR   what it does [ST_ADDR]`. The page of a command shows the
/// options that fit it; the list of all says with each for which commands it is.
fn options<T>(table: &[Opt<T>], command: Option<&str>) -> String {
    let shown = table.iter().filter(|opt| command.is_none_or(|command| opt.fits(command)));
    let lines = shown.map(|opt| {
        let env = if opt.env.is_empty() { String::new() } else { format!(" [{}]", opt.env) };
        let only = if opt.only.is_empty() { String::new() } else { format!("{}: ", opt.only.join(", ")) };
        let help = opt.help.replace('\n', &format!("\n{:31}", ""));
        format!("  {:<28} {only}{help}{env}\n", opt.usage)
    });
    lines.collect()
}

/// A line an exit code: what it means in general, or what a command says that it means there. "No"
/// is shown only where that is said, since most commands cannot end so.
fn exits(special: &[(Exit, &str)]) -> String {
    let lines = Exit::MEANINGS.iter().filter_map(|(exit, general)| {
        let said = special.iter().find(|(special, _)| special == exit).map(|(_, text)| text);
        let text = said.or((*exit != Exit::No).then_some(general))?;
        Some(format!("  {}  {text}\n", exit.code()))
    });
    lines.collect()
}
