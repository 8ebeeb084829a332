//! What several test files share: the real binary, and a server made of it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::fake::told;

/// The binary under test, with an environment in which no `ST_…` variable is set.
pub fn st(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_st"));
    command.args(args);
    for name in ["ST_ADDR", "ST_TOKEN", "ST_TIMEOUT", "ST_RETRY", "ST_SERVICES"] {
        command.env_remove(name);
    }
    command
}

/// Runs a command to its end, with these bytes as its stdin.
pub fn run(command: &mut Command, stdin: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut pipe, stdin) = (child.stdin.take().unwrap(), stdin.to_vec());
    // By a thread, since the child may fill its stdout before it has read all; and it may read nothing.
    let feeder = std::thread::spawn(move || pipe.write_all(&stdin));
    let output = child.wait_with_output().unwrap();
    let _ = feeder.join().unwrap();
    output
}

/// The exit code, stdout and stderr of `st client` with these words, which asks this server.
pub fn client(addr: &str, words: &[&str]) -> (i32, String, String) {
    told(run(st(&["client", "-a", addr]).args(words), b""))
}

/// The same client, while other things happen.
pub fn start(addr: &str, words: &[&str]) -> Child {
    let mut command = st(&["client", "-a", addr]);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// An address to listen at that no other test has had, on a free port. On Linux all of 127.0.0.0/8 is this machine.
/// A port of 127.0.0.1 that a server has given back may be the next one's of a test beside it, and then
/// "nobody listens any more" is not true.
pub fn own_address() -> String {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let [high, low] = TAKEN.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    if cfg!(target_os = "linux") { format!("127.77.{high}.{low}:0") } else { "127.0.0.1:0".to_owned() }
}

/// A server on a free port, killed when dropped.
pub struct Server {
    pub addr: String,
    child: Child,
}

impl Server {
    pub fn start(flags: &[&str]) -> Server {
        let mut command = st(&["server"]);
        command.args(flags).arg("0");
        Server::spawn(command)
    }

    /// By this command. Its address is empty where it did not start.
    pub fn spawn(mut command: Command) -> Server {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut addr = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut addr).unwrap();
        Server { addr: addr.trim_end().into(), child }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
