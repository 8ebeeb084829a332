//! `st server`: from options to a running server, and from its end to an exit code.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::panic;
use std::sync::Arc;

use super::server::ServerArgs;
use crate::actions::{Program, ProgramError, RegisterError, adopt_orphans};
use crate::protocol::{Address, AddressError};
use crate::protocol::{TOKEN_VARIABLE, Token, TokenError};
use crate::server::{BindError, Level, Log, Options, Server};
use crate::store::Store;

/// Why the server did not start, or ended.
#[derive(Debug)]
pub enum ServeError {
    /// The address is none, or leads nowhere.
    Address(AddressError),
    /// Beyond this machine only with a token.
    Unprotected(SocketAddr),
    /// There is no token where one is wanted.
    Token(TokenError),
    /// An action's program cannot be run.
    Program(ProgramError),
    /// An action's name is taken.
    Action(RegisterError),
    /// The address cannot be listened on.
    Bind(BindError),
    /// The address cannot be told.
    Output(io::Error),
    /// A thread cannot be started.
    Run(io::Error),
}

impl ServeError {
    /// 2 for what was asked wrongly, 6 for what the machine did not give.
    pub fn exit_code(&self) -> u8 {
        match self {
            ServeError::Bind(_) | ServeError::Output(_) | ServeError::Run(_) => 6,
            ServeError::Token(TokenError::Unreadable { .. }) => 6,
            _ => 2,
        }
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Address(error) => error.fmt(f),
            ServeError::Unprotected(address) => write!(
                f,
                "{address} can be reached from other machines, and whoever reaches it can write: \
                 set a token with --token-file FILE or ST_TOKEN, or say --insecure"
            ),
            ServeError::Token(error) => error.fmt(f),
            ServeError::Program(error) => error.fmt(f),
            ServeError::Action(error) => error.fmt(f),
            ServeError::Bind(error) => error.fmt(f),
            ServeError::Output(error) => write!(f, "cannot write to stdout: {error}"),
            ServeError::Run(error) => write!(f, "cannot start: {error}"),
        }
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ServeError::Address(error) => Some(error),
            ServeError::Unprotected(_) => None,
            ServeError::Token(error) => Some(error),
            ServeError::Program(error) => Some(error),
            ServeError::Action(error) => Some(error),
            ServeError::Bind(error) => Some(error),
            ServeError::Output(error) | ServeError::Run(error) => Some(error),
        }
    }
}

/// Serves until killed, or in mode `once` until a request is answered. `env` looks up environment variables.
/// The address goes to `out`, in one line, as soon as clients can connect; events go to `events`.
pub fn run(
    args: &ServerArgs,
    env: &dyn Fn(&str) -> Option<OsString>,
    out: &mut dyn Write,
    events: impl Write + Send + 'static,
) -> Result<(), ServeError> {
    let token = Token::find(args.token_file.as_deref(), env(TOKEN_VARIABLE)).map_err(ServeError::Token)?;
    let mut server = bind(args, token.is_some())?;
    register(args, &mut server)?;
    let log = Log::new(args.level, events).map_err(ServeError::Run)?;
    tell_panics(log.clone());
    // Every file named by the options has been opened, and programs' paths are absolute. Programs are to run in the
    // root; were each sent there as it starts, a static binary could only fork for it.
    env::set_current_dir("/").map_err(ServeError::Run)?;
    adopt_orphans().map_err(ServeError::Run)?;
    let address = server.local_addr();
    writeln!(out, "{address}").and_then(|()| out.flush()).map_err(ServeError::Output)?;
    if !address.ip().is_loopback() {
        let advice =
            format!("nothing is encrypted here; safer: ssh -L 7777:127.0.0.1:{} HOST", address.port());
        log.event(Level::Info, "exposed", &[("address", &address), ("advice", &advice)]);
    }
    log.event(Level::Info, "listening", &[("address", &address)]);
    let options = Options {
        mode: args.mode,
        request_bytes_max: args.max_request,
        idle: args.idle,
        deadline: args.deadline,
        store: Arc::new(Store::new(args.max_memory)),
        token,
        log: log.clone(),
    };
    let ended = server.options(options).run().map_err(ServeError::Run);
    log.flush();
    ended
}

/// Has panics told as events: where, and not what, since their messages may quote a client. By itself
/// a panicking thread writes to stderr, and would wait for ever where that is a pipe that nobody reads.
fn tell_panics(log: Log) {
    panic::set_hook(Box::new(move |panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        log.event(Level::Error, "panic", &[("at", &at)]);
    }));
}

fn bind(args: &ServerArgs, has_token: bool) -> Result<Server, ServeError> {
    let addresses = Address::parse(&args.address).and_then(|address| address.resolve());
    let addresses = addresses.map_err(ServeError::Address)?;
    let exposed = addresses.iter().find(|address| !address.ip().is_loopback());
    if let Some(address) = exposed.filter(|_| !has_token && !args.insecure) {
        return Err(ServeError::Unprotected(*address));
    }
    Server::bind(&addresses[..]).map_err(ServeError::Bind)
}

fn register(args: &ServerArgs, server: &mut Server) -> Result<(), ServeError> {
    let actions = server.actions();
    actions.limits.timeout = args.action_timeout;
    actions.limits.jobs_max = args.action_jobs;
    actions.exec_allowed = args.allow_exec;
    for (name, path) in &args.actions {
        let program = Program::new(path).map_err(ServeError::Program)?;
        actions
            .register(name, "[DATA]", "an action of this server's own", program)
            .map_err(ServeError::Action)?;
    }
    Ok(())
}
