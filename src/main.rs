//! The `st` binary: words in, exit code out. The only place that touches the process's own arguments,
//! environment, stdin, stdout and stderr.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use socket_tables::args::{self, Command};
use socket_tables::client::{self, Io};

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    // The name the program was called by, without its path: messages and help should show what can be typed.
    let name = Path::new(&name).file_name().map_or("st".into(), |name| name.to_string_lossy().into_owned());
    let command = match args::parse(&name, words, &|variable| std::env::var_os(variable)) {
        Ok(command) => command,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            return ExitCode::from(2);
        }
    };
    match command {
        Command::Help(topic) => print(&args::help(&name, topic)),
        Command::Version => print(concat!("st ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Client(args) => {
            let (mut stdin, mut stdout, mut stderr) = (io::stdin(), io::stdout(), io::stderr());
            let io = Io { stdin: &mut stdin, stdout: &mut stdout, stderr: &mut stderr };
            ExitCode::from(client::run(&name, &args, io))
        }
        Command::Json(_) => ExitCode::from(2),
        Command::Server(args) => serve(&args),
    }
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(6),
        _ => ExitCode::SUCCESS,
    }
}

// A stand-in until the server's own `run`.
fn serve(args: &args::ServerArgs) -> ExitCode {
    use socket_tables::{address::Address, server};
    let all = Address::parse(&args.address).and_then(|address| address.resolve());
    let mode = match args.mode {
        args::ModeName::Pool => server::Mode::Pool { threads: args.threads },
        args::ModeName::Iterative => server::Mode::Iterative,
        args::ModeName::Once => server::Mode::Once,
    };
    match all.map(|all| server::Server::bind(&all[..])) {
        Ok(Ok(bound)) => {
            let _ = writeln!(io::stdout(), "{}", bound.local_addr());
            let _ = bound.mode(mode).run();
            ExitCode::SUCCESS
        }
        _ => ExitCode::from(6),
    }
}
