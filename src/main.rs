//! The `st` binary: words in, exit code out. The only place that touches the process's own arguments,
//! environment, stdin, stdout and stderr.
#![forbid(unsafe_code)]

use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use socket_tables::cli::{self, Command, Io, ServeError};

fn main() -> ExitCode {
    let mut words = env::args_os();
    let name = words.next().unwrap_or_default();
    // The name the program was called by, without its path: messages and help should show what can be typed.
    let name = Path::new(&name).file_name().map_or("st".into(), |name| name.to_string_lossy().into_owned());
    let command = match cli::parse(&name, words, &|variable| env::var_os(variable)) {
        Ok(command) => command,
        Err(error) => {
            if !error.quiet {
                let _ = writeln!(io::stderr(), "{error}");
            }
            return ExitCode::from(2);
        }
    };
    match command {
        Command::Help(topic) => print(&cli::help(&name, topic)),
        Command::Version => print(concat!("st ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Client(args) => {
            let (mut stdin, mut stdout, mut stderr) = (io::stdin(), io::stdout(), io::stderr());
            let out = io::stdout();
            let stdout_fd = Some(out.as_fd());
            let io = Io { stdin: &mut stdin, stdout: &mut stdout, stderr: &mut stderr, stdout_fd };
            ExitCode::from(cli::run(&name, &args, io))
        }
        Command::Json(args) => json(&name, &args),
        Command::Server(args) => serve(&name, &args),
    }
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(6),
        _ => ExitCode::SUCCESS,
    }
}

fn json(name: &str, args: &cli::JsonArgs) -> ExitCode {
    use socket_tables::cli::{ReformatError, reformat};
    let (done, from) = match &args.file {
        None => (reformat(io::stdin().lock(), io::stdout().lock(), args.layout), "stdin".into()),
        Some(file) => {
            let opened = File::open(file).map_err(ReformatError::Read);
            let done = opened.and_then(|input| reformat(input, io::stdout().lock(), args.layout));
            (done, file.display().to_string())
        }
    };
    let (code, text) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(ReformatError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            return ExitCode::SUCCESS;
        }
        Err(ReformatError::Json(error)) => (1, format!("{from}: {error}")),
        Err(ReformatError::Read(error)) => (6, format!("{from}: {error}")),
        Err(ReformatError::Write(error)) => (6, format!("cannot write to stdout: {error}")),
    };
    let _ = writeln!(io::stderr(), "{name}: {text}");
    ExitCode::from(code)
}

fn serve(name: &str, args: &cli::ServerArgs) -> ExitCode {
    let served = cli::serve(args, &|variable| env::var_os(variable), &mut io::stdout(), io::stderr());
    let Err(error) = served else { return ExitCode::SUCCESS };
    let help = match error {
        ServeError::Address(_) | ServeError::Program(_) | ServeError::Action(_) => {
            format!(" (see '{name} server --help')")
        }
        _ => String::new(),
    };
    let _ = writeln!(io::stderr(), "{name}: {error}{help}");
    ExitCode::from(error.exit_code())
}
