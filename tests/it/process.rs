//! A server process under observation: its log, its memory, its threads, its descriptors.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use socket_tables::json::Value;
use socket_tables::server::Mode;

/// Far more than any reply takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const COUNT: &str = r#"{"request":"COUNT"}"#;
pub const COUNTED: &str = "{\"value\":0}\n";

/// A server on a free port, killed when dropped.
pub struct Process {
    /// Where to reach it, also where it listens on all addresses.
    pub addr: SocketAddr,
    child: Child,
    log: Option<Temporary>,
}

/// A path of our own below the directory for such, removed when dropped.
pub struct Temporary(pub PathBuf);

impl Temporary {
    pub fn new() -> Temporary {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("st-it-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Temporary(std::env::temp_dir().join(name))
    }

    /// A file with this content that only its owner may read.
    pub fn private(content: &[u8]) -> Temporary {
        let file = Temporary::new();
        fs::write(&file.0, content).unwrap();
        file.allow(0o600);
        file
    }

    pub fn allow(&self, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&self.0, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// `st server` with these flags, on a free port.
pub fn server(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_st"));
    command.env_remove("ST_TOKEN").arg("server").args(flags).arg("0").stderr(Stdio::null());
    command
}

/// `st server` with these flags, run by a shell after these words, which may end in `exec`.
pub fn by_shell(before: &str, flags: &str) -> Command {
    let mut command = Command::new("sh");
    let line = format!("{before} {} server {flags} 0", env!("CARGO_BIN_EXE_st"));
    command.args(["-c", &line]).stderr(Stdio::null());
    command
}

impl Process {
    pub fn start(flags: &[&str]) -> Process {
        Process::spawn(server(flags))
    }

    /// One with a journal, at an address of its own: where it is killed, another can take its place.
    pub fn with_journal_at(journal: &str, sync: &str, address: &str) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_st"));
        command.args(["server", "-q", "--journal", journal, "--sync", sync, address]).stderr(Stdio::null());
        Process::spawn(command)
    }

    /// One that serves in this mode.
    pub fn in_mode(mode: Mode, flags: &[&str]) -> Process {
        Process::start(&[flags, &["-m", &mode.to_string()]].concat())
    }

    /// A server whose log can be read.
    pub fn logging(flags: &[&str]) -> Process {
        let log = Temporary::new();
        let mut command = server(flags);
        command.stderr(File::create(&log.0).unwrap());
        let mut process = Process::spawn(command);
        process.log = Some(log);
        process
    }

    pub fn logging_in(mode: Mode, flags: &[&str]) -> Process {
        Process::logging(&[flags, &["-m", &mode.to_string()]].concat())
    }

    /// Starts the server that `command` runs, and waits until it listens.
    pub fn spawn(mut command: Command) -> Process {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let line = line.trim_end().replace("0.0.0.0", "127.0.0.1");
        Process { addr: line.parse().expect("its first line is its address"), child, log: None }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// All that is answered to these bytes, once no more will come.
    pub fn ask(&self, sent: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect();
        stream.write_all(sent.as_ref()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        rest(&mut stream)
    }

    /// What INFO tells.
    pub fn info(&self) -> Value {
        let reply = Value::parse(&self.ask(r#"{"request":"INFO"}"#)).unwrap();
        reply.get("value").unwrap().clone()
    }

    /// A number out of INFO, 0 where there is none: `["errors", "busy"]`, say.
    pub fn told(&self, path: &[&str]) -> u64 {
        let info = self.info();
        let found = path.iter().try_fold(&info, |object, name| object.get(name));
        found.map_or(0, |number| number.to_string().parse().unwrap())
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log.as_ref().unwrap().0).unwrap()
    }

    /// A number of bytes by its name in `/proc/PID/status`: `VmRSS`, or its peak, `VmHWM`.
    pub fn memory(&self, name: &str) -> u64 {
        self.status(name) * 1024
    }

    pub fn threads(&self) -> u64 {
        self.status("Threads")
    }

    pub fn descriptors(&self) -> u64 {
        fs::read_dir(self.proc("fd")).unwrap().count() as u64
    }

    /// The processor time it has used, in hundredths of a second.
    pub fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(self.proc("stat")).unwrap();
        // The name of the program, which may hold anything, ends at the last bracket.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// How often the thread that began it, which is the one that waits for clients, has gone to sleep.
    pub fn sleeps(&self) -> u64 {
        self.status("voluntary_ctxt_switches")
    }

    fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Sends it a signal, by its name: `TERM`, say.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Whether a signal is among those that are caught (`SigCgt`) or ignored (`SigIgn`).
    pub fn has_signal(&self, kind: &str, number: u32) -> bool {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with(kind)).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap() >> (number - 1) & 1 == 1
    }

    /// How it has ended, once it has.
    pub fn ended(&mut self) -> ExitStatus {
        eventually("it ends", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All that comes until the connection ends, in whichever way.
pub fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset, too, ends it; what came before it is kept.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends a request, and gives the line that answers it.
pub fn exchange(stream: &mut TcpStream, sent: impl AsRef<[u8]>) -> String {
    stream.write_all(sent.as_ref()).unwrap();
    let (mut line, mut piece) = (Vec::new(), vec![0; 1 << 16]);
    // What comes behind the line stays in the socket. Byte by byte a long line took longer than the server waits.
    while line.last() != Some(&b'\n')
        && let Ok(n) = stream.peek(&mut piece)
        && n > 0
    {
        let end = piece[..n].iter().position(|byte| *byte == b'\n').map_or(n, |at| at + 1);
        stream.read_exact(&mut piece[..end]).unwrap();
        line.extend_from_slice(&piece[..end]);
    }
    String::from_utf8(line).unwrap()
}

/// Waits until this holds; fails when it has not come about in time.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "it did not come about: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs all of these side by side, for most of their time is waiting.
pub fn side_by_side(tests: &[&(dyn Fn() + Sync)]) {
    std::thread::scope(|scope| {
        for test in tests {
            scope.spawn(test);
        }
    });
}

/// Whether the kernel probes, after a silence, the peer of an established connection of this network from
/// `local` to `remote` (where these are 0, any port).
pub fn keepalive_armed(local: u16, remote: u16) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).any(|line| {
        // Its number, the local and the remote address, the state, the queues, the timer and when it is due.
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is = |address: &str, port: u16| {
            let found = u16::from_str_radix(address.rsplit_once(':').unwrap().1, 16).unwrap();
            port == 0 || found == port
        };
        let (established, timer) = (fields[3] == "01", fields[5]);
        is(fields[1], local) && is(fields[2], remote) && established && timer.starts_with("02:")
    })
}

/// Milliseconds.
pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
