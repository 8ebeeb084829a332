//! The help texts, made from the tables that the parser reads, so that they cannot disagree.

use std::fmt::Write;

use super::client::{COMMANDS, OPTIONS as CLIENT_OPTIONS};
use super::options::Opt;
use super::server::OPTIONS as SERVER_OPTIONS;
use super::{JSON_OPTIONS, Topic};

/// What each exit code means, everywhere.
const EXITS: [&str; 7] = [
    "yes: it was done, it is there",
    "no: missing, exists already, conflict, wait expired",
    "usage, or input that is not valid",
    "cannot connect",
    "timeout, or connection lost after the request was sent: outcome unknown",
    "the server refused",
    "local input or output failed",
];

/// The text for a topic; `program` is the name the program was called by.
pub fn text(program: &str, topic: Topic) -> String {
    let mut out = String::new();
    let write = match topic {
        Topic::Program => overview(&mut out, program),
        Topic::Server => server(&mut out, program),
        Topic::Client => client(&mut out, program),
        Topic::ClientCommand(name) => client_command(&mut out, program, name),
        Topic::Json => json(&mut out, program),
    };
    write.expect("writing to a String does not fail");
    out
}

fn overview(out: &mut String, program: &str) -> std::fmt::Result {
    let version = env!("CARGO_PKG_VERSION");
    writeln!(out, "{program} {version}: a JSON-over-TCP table in memory, and its client\n")?;
    writeln!(out, "  {program} server [OPTIONS] [ADDR]     serve a table")?;
    writeln!(out, "  {program} client [OPTIONS] COMMAND …  ask a server")?;
    writeln!(out, "  {program} json [OPTIONS] [FILE]       check or reformat JSON")?;
    writeln!(out, "  {program} --version\n")?;
    writeln!(out, "Try it, in two terminals:\n")?;
    writeln!(out, "  {program} server")?;
    writeln!(out, "  {program} client update door open && {program} client get door\n")?;
    writeln!(out, "More: {program} server --help, {program} client --help, {program} json --help")
}

fn server(out: &mut String, program: &str) -> std::fmt::Result {
    writeln!(out, "{program} server [OPTIONS] [ADDR]: serve a table\n")?;
    writeln!(
        out,
        "ADDR is PORT, HOST:PORT, [IPV6]:PORT, or a service's name from /etc/services or the file"
    )?;
    writeln!(
        out,
        "that ST_SERVICES names. Without a host it listens on 127.0.0.1, without ADDR on port 7777;"
    )?;
    writeln!(out, "port 0 takes a free one. The address is the first line on stdout; logs go to stderr.\n")?;
    options(out, SERVER_OPTIONS, |_| true)?;
    writeln!(out, "\nSizes take K, M and G (1,024s); times are seconds, decimals allowed.")?;
    writeln!(out, "Exit: 2 usage; 6 it cannot listen there, or a file cannot be used.")
}

fn client(out: &mut String, program: &str) -> std::fmt::Result {
    writeln!(out, "{program} client [OPTIONS] COMMAND …: ask a server\n\nCommands:")?;
    for spec in COMMANDS {
        let alias = spec.alias.map_or(String::new(), |alias| format!(" ({alias})"));
        let usage = format!("{} {}", spec.name, spec.operands);
        writeln!(out, "  {usage:<34} {}{alias}", spec.about)?;
    }
    writeln!(out, "  {:<34} explain one of these, with an example", "help COMMAND")?;
    writeln!(out, "  {:<34} a session: a command a line from stdin\n\nOptions, before KEY:", "(none)")?;
    options(out, CLIENT_OPTIONS, |_| true)?;
    writeln!(out, "\nAfter KEY everything is data: '{program} client update temp -5' stores -5.")?;
    writeln!(
        out,
        "A key that begins with a dash comes after '--'. Values are strings, unless -j is given.\n"
    )?;
    exits(out, EXITS[1])
}

fn client_command(out: &mut String, program: &str, name: &str) -> std::fmt::Result {
    let Some(spec) = COMMANDS.iter().find(|spec| spec.name == name) else { return Ok(()) };
    let usage = format!("{program} client [OPTIONS] {name} {}", spec.operands);
    writeln!(out, "{}: {}\n", usage.trim_end(), spec.about)?;
    if let Some(alias) = spec.alias {
        writeln!(out, "It is also called {alias}.\n")?;
    }
    if !spec.more.is_empty() {
        writeln!(out, "{}\n", spec.more)?;
    }
    writeln!(out, "  {program} client {}\n", spec.example.replace("st json", &format!("{program} json")))?;
    options(out, CLIENT_OPTIONS, |opt| opt.only.is_empty() || opt.only.contains(&name))?;
    writeln!(out)?;
    exits(out, spec.no)
}

fn json(out: &mut String, program: &str) -> std::fmt::Result {
    writeln!(out, "{program} json [OPTIONS] [FILE]: check or reformat JSON from FILE or stdin\n")?;
    writeln!(out, "  {program} client info | {program} json\n")?;
    options(out, JSON_OPTIONS, |_| true)?;
    writeln!(
        out,
        "\nExit: 0 it is JSON; 1 it is not, with line and column on stderr; 2 usage; 6 input or output failed."
    )
}

/// A line an option: `-a, --addr ADDR   what it does [ST_ADDR]`.
fn options<T>(out: &mut String, table: &[Opt<T>], shown: impl Fn(&Opt<T>) -> bool) -> std::fmt::Result {
    for opt in table.iter().filter(|opt| shown(opt)) {
        let short = opt.short.map_or("   ".into(), |letter| format!("-{letter},"));
        let name = format!("{short} --{} {}", opt.long, opt.value);
        let env = if opt.env.is_empty() { String::new() } else { format!(" [{}]", opt.env) };
        let help = opt.help.replace('\n', &format!("\n{:31}", ""));
        let only = if opt.only.is_empty() { String::new() } else { format!("{}: ", opt.only.join(", ")) };
        writeln!(out, "  {name:<28} {only}{help}{env}")?;
    }
    writeln!(out, "  {:<28} this text", "-h, --help")
}

/// The exit codes, with what 1 means here.
fn exits(out: &mut String, no: &str) -> std::fmt::Result {
    writeln!(out, "Exit:")?;
    for (code, meaning) in EXITS.iter().enumerate() {
        match code {
            1 if no.is_empty() => continue,
            1 => writeln!(out, "  1  {no}")?,
            _ => writeln!(out, "  {code}  {meaning}")?,
        }
    }
    Ok(())
}
