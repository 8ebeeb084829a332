//! The help texts. What they say of commands and options comes from the tables that the parser reads, so
//! that the two cannot disagree. `{st}` stands for the name the program was called by.

use super::args::{JSON_OPTIONS, Topic};
use super::client::{COMMANDS, OPTIONS as CLIENT_OPTIONS};
use super::options::Opt;
use super::server::OPTIONS as SERVER_OPTIONS;
use crate::actions::Actions;
use crate::protocol::Spec;

const PROGRAM: &str = "\
{st}: a JSON-over-TCP table in memory, and its client

  {st} server [OPTIONS] [ADDR]     serve a table
  {st} client [OPTIONS] COMMAND …  ask a server
  {st} json [OPTIONS] [FILE]       check or reformat JSON
  {st} --version

Try it, in two terminals:

  {st} server
  {st} client update door open && {st} client get door

More: {st} server --help, {st} client --help, {st} json --help
";

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

const CLIENT: &str = "\
{st} client [OPTIONS] COMMAND …: ask a server

Commands:
{commands}  help COMMAND                       explain one of these, with an example
  (none)                             a session: a command a line from stdin

In a session words are quoted as in a shell, # begins a comment line, and 'quit' ends it.

Options, before KEY:
{options}
After KEY words are data: '{st} client update temp -5' stores -5. A word that is exactly an option of
the command is refused there, unless '--' came before. A key that begins with a dash comes after
'--', too. Values are strings, unless -j is given.

Exit:
";

const JSON: &str = "\
{st} json [OPTIONS] [FILE]: check or reformat JSON from FILE or stdin

  {st} client info | {st} json
  {st} client dump | {st} json -c

It takes one value or many, one after another. Nothing is written before all have been read.

{options}
Exit: 0 it is JSON; 1 it is not (stderr tells line and column); 2 usage; 6 input or output failed.
";

/// What the client's exit codes mean, with what 1 means for a command in place of the general words.
const EXITS: [(char, &str); 7] = [
    ('0', "yes: it was done, it is there"),
    ('1', "no: missing, exists already, conflict, wait expired"),
    ('2', "usage, or input that is not valid"),
    ('3', "cannot connect"),
    ('4', "timeout, or connection lost after the request was sent: a write's outcome is unknown"),
    ('5', "the server refused"),
    ('6', "local input or output failed"),
];

/// The same for `watch`, which ends only when it has had enough or can go on no more.
const WATCH_EXITS: [(char, &str); 6] = [
    ('0', "--count changes were told, or nobody reads stdout any more"),
    EXITS[2],
    ('3', "cannot connect, or not again within --retry tries"),
    ('4', "timeout, or the watch was lost and --retry is 0"),
    EXITS[5],
    ('6', "PROGRAM cannot be run, or stdout cannot be written to"),
];

/// The text for a topic; `program` is the name the program was called by.
pub fn text(program: &str, topic: Topic) -> String {
    let text = match topic {
        Topic::Program => PROGRAM.into(),
        Topic::Server => server(),
        Topic::Client => client(),
        Topic::ClientCommand(name) => command(name),
        Topic::Json => JSON.replace("{options}", &options(JSON_OPTIONS, None)),
    };
    text.replace("{st}", program)
}

fn server() -> String {
    let actions = Actions::default();
    let requests = actions
        .specs()
        .map(|Spec { name, args, help }| format!("  {:<28} {help}\n", format!("{name} {args}")));
    let text = SERVER.replace("{requests}", &requests.collect::<String>());
    text.replace("{options}", &options(SERVER_OPTIONS, None))
}

fn client() -> String {
    let commands = COMMANDS.iter().map(|spec| {
        let alias = spec.alias.map_or(String::new(), |alias| format!(" ({alias})"));
        format!("  {:<34} {}{alias}\n", format!("{} {}", spec.name, spec.operands), spec.about)
    });
    let text = CLIENT.replace("{commands}", &commands.collect::<String>());
    text.replace("{options}", &options(CLIENT_OPTIONS, None)) + &exits(&EXITS, EXITS[1].1)
}

fn command(name: &str) -> String {
    let Some(spec) = COMMANDS.iter().find(|spec| spec.name == name) else { return String::new() };
    let usage = format!("{{st}} client [OPTIONS] {name} {}", spec.operands);
    let alias = spec.alias.map_or(String::new(), |alias| format!("It is also called {alias}.\n"));
    let more = if spec.more.is_empty() { String::new() } else { format!("{}\n", spec.more) };
    let gap = if alias.is_empty() && more.is_empty() { "" } else { "\n" };
    let options = options(CLIENT_OPTIONS, Some(name));
    let (usage, about, example) = (usage.trim_end(), spec.about, spec.example);
    format!("{usage}: {about}\n\n{alias}{more}{gap}  {{st}} client {example}\n\n{options}\nExit:\n")
        + &exits(if name == "watch" { &WATCH_EXITS } else { &EXITS }, spec.no)
}

/// A line an option: `-a, --addr ADDR   what it does [ST_ADDR]`.
fn options<T>(table: &[Opt<T>], command: Option<&str>) -> String {
    let shown = table.iter().filter(|opt| command.is_none_or(|command| opt.fits(command)));
    let lines = shown.map(|opt| {
        let env = if opt.env.is_empty() { String::new() } else { format!(" [{}]", opt.env) };
        let only = if opt.only.is_empty() { String::new() } else { format!("{}: ", opt.only.join(", ")) };
        let help = opt.help.replace('\n', &format!("\n{:31}", ""));
        format!("  {:<28} {only}{help}{env}\n", opt.usage)
    });
    lines.chain([format!("  {:<28} this text\n", "-h, --help")]).collect()
}

fn exits(codes: &[(char, &str)], no: &str) -> String {
    let lines = codes.iter().filter(|(code, _)| *code != '1' || !no.is_empty());
    lines.map(|(code, text)| format!("  {code}  {}\n", if *code == '1' { no } else { text })).collect()
}
