//! What both ends are told about a server before the first byte is sent: where it is, and the secret that it wants.
//!
//! An [`Address`] is read as people write them: `7777`, `box:7777`, `[::1]:7777`, `box:LIFE_GEN`, `LIFE_GEN`. A port
//! may be said by a service's name, as in micro-client-server: programs then agree on a word, and one file says
//! which port it means. `localhost` is answered here and not by the system, whose answer comes from files and
//! shared libraries that a static binary may not find (an empty chroot has neither). 127.0.0.1 goes first, because
//! that is where `st server` listens by default; ::1 is tried when that fails.
//!
//! A [`Token`] comes from a file that only its owner may read, or from the environment, which is its owner's alone as
//! well. It is no command-line argument, since every user of a machine can list those, and it is in no log. It is
//! sent as it is, on a connection that nothing encrypts: it keeps strangers out, not eavesdroppers. Who must cross
//! an open network does so within ssh or the like.
//!
//! Deliberately absent: service databases other than the file, and protocols other than tcp.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

/// The address where none is given.
pub const ADDRESS_DEFAULT: &str = "127.0.0.1:7777";

/// The most of a file of services that is read. Debian's has 12 KiB.
const SERVICES_BYTES_MAX: u64 = 16 << 20;

/// A host and a port, not yet resolved. Messages name it as it was written, not the numbers that it led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

/// Why a text is no address, or an address leads nowhere. `Display` tells the cause too.
#[derive(Debug)]
pub enum AddressError {
    /// This text is of no form we know.
    Malformed(String),
    /// The file of services does not name this tcp service.
    UnknownService(String, PathBuf),
    /// The file of services, needed for this name, cannot be read.
    Services(String, PathBuf, io::Error),
    /// This host's name leads to no address.
    UnknownHost(String, io::Error),
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressError::Malformed(text) => write!(
                f,
                "{text:?} is no address: write PORT (at most 65535), HOST:PORT, [IPV6]:PORT or a service's name"
            ),
            AddressError::UnknownService(name, file) => {
                write!(f, "no tcp service {name:?} in {}; for a host write {name}:PORT", file.display())
            }
            AddressError::Services(name, file, error) => {
                write!(f, "cannot look up the service {name:?} in {}: {error}", file.display())
            }
            AddressError::UnknownHost(host, error) => write!(f, "{host}: {error}"),
        }
    }
}

impl std::error::Error for AddressError {}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Address {
    /// Reads an address; a service's name is looked up in the file that the environment variable
    /// `ST_SERVICES` names, else in `/etc/services`.
    ///
    /// ```
    /// use socket_tables::protocol::Address;
    /// assert_eq!(Address::parse("7777")?.to_string(), "127.0.0.1:7777");
    /// assert_eq!(Address::parse("[::1]:80")?.to_string(), "[::1]:80");
    /// # Ok::<(), socket_tables::protocol::AddressError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        let file = std::env::var_os("ST_SERVICES").filter(|file| !file.is_empty());
        Address::parse_with(text, file.as_deref().unwrap_or("/etc/services".as_ref()).as_ref())
    }

    fn parse_with(text: &str, services: &Path) -> Result<Address, AddressError> {
        // The way most addresses are written, and the only one that takes an IPv6 scope.
        if let Ok(address) = text.parse::<SocketAddr>() {
            let host = text[..text.rfind(':').unwrap_or(0)].trim_matches(['[', ']']);
            return Ok(Address { host: host.into(), port: address.port() });
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("127.0.0.1", text));
        let malformed = || AddressError::Malformed(text.into());
        let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        if host.is_empty() || port.is_empty() || !host.chars().chain(port.chars()).all(plain) {
            return Err(malformed());
        }
        let port = match port.bytes().all(|b| b.is_ascii_digit()) {
            true => port.parse().map_err(|_| malformed())?,
            false => service(port, services)?,
        };
        Ok(Address { host: host.into(), port })
    }

    /// Every address the host's name stands for, in the order in which to try them; at least one. Where the
    /// system must be asked it takes its time: seconds, if a name server is out of reach.
    ///
    /// ```
    /// # use socket_tables::protocol::Address;
    /// assert_eq!(Address::parse("localhost:80")?.resolve()?.len(), 2);
    /// # Ok::<(), socket_tables::protocol::AddressError>(())
    /// ```
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, AddressError> {
        if let Some(known) = self.known() {
            return Ok(known);
        }
        // A scoped IPv6 address is understood by the system alone: `(host, port)` takes it.
        let found = (&*self.host, self.port).to_socket_addrs().map_err(|error| self.unknown(error))?;
        Ok(found.collect())
    }

    /// The addresses of a host that is a number or `localhost`: they are known without asking the system.
    pub fn known(&self) -> Option<Vec<SocketAddr>> {
        let hosts = match self.host.parse() {
            Ok(ip) => vec![ip],
            Err(_) if self.host.eq_ignore_ascii_case("localhost") => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            Err(_) => return None,
        };
        Some(hosts.into_iter().map(|ip: IpAddr| SocketAddr::new(ip, self.port)).collect())
    }

    /// The error that says why the host's name led nowhere.
    pub fn unknown(&self, error: io::Error) -> AddressError {
        AddressError::UnknownHost(self.host.clone(), error)
    }
}

/// The tcp port of a service, from a file of lines `name port/tcp alias … # comment`. Lines of any
/// other form are passed over, as every reader of that file does.
fn service(name: &str, file: &Path) -> Result<u16, AddressError> {
    let failed = |error| AddressError::Services(name.into(), file.into(), error);
    for line in BufReader::new(File::open(file).map_err(failed)?.take(SERVICES_BYTES_MAX)).split(b'\n') {
        let line = line.map_err(failed)?;
        let line = String::from_utf8_lossy(&line);
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let (Some(first), Some(port)) = (words.next(), words.next()) else { continue };
        let port = port.strip_suffix("/tcp").and_then(|port| port.parse().ok());
        if let Some(port) = port.filter(|_| first == name || words.any(|alias| alias == name)) {
            return Ok(port);
        }
    }
    Err(AddressError::UnknownService(name.into(), file.into()))
}

/// The environment variable that holds the token where no file is named.
pub const TOKEN_VARIABLE: &str = "ST_TOKEN";
/// The most bytes a token may have as the most cautious writer of JSON writes it, everything beyond ASCII
/// as `\uXXXX`: AUTH must fit into the 4 KiB that a client may send before it is authenticated.
pub const TOKEN_BYTES_MAX: usize = 2048;

/// A secret that every client can show, in every dialect. Its `Debug` hides it, since whatever holds a token may be
/// printed into a log.
#[derive(Clone)]
pub struct Token(String);

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadToken {
    /// It has no bytes, or more than [`TOKEN_BYTES_MAX`].
    Length,
    /// It holds a control character, which no line can hold.
    Control,
    /// It begins or ends with a space, which a line would lose.
    OuterSpace,
}

/// Why there is no token, and in which file, or in [`TOKEN_VARIABLE`]. `Display` tells the cause too.
#[derive(Debug)]
pub enum TokenError {
    /// The file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// Others than its owner may use the file.
    NotPrivate(PathBuf),
    /// What the environment holds is no text.
    NotUtf8,
    /// What is there is no token.
    Bad(PathBuf, BadToken),
}

impl Token {
    /// The token of this text, if it can be shown in each of the dialects. A server whose token cannot be sent as a
    /// line would be one that some clients can never use, and it would not say why.
    ///
    /// ```
    /// # use socket_tables::Token;
    /// assert!(Token::new("open sesame")?.matches("open sesame"));
    /// # Ok::<(), socket_tables::protocol::BadToken>(())
    /// ```
    pub fn new(text: &str) -> Result<Token, BadToken> {
        let written = text.chars().map(|c| match c {
            '"' | '\\' => 2,
            _ if c.is_ascii() => 1,
            _ => "\\u0000".len() * c.len_utf16(),
        });
        if text.is_empty() || written.sum::<usize>() > TOKEN_BYTES_MAX {
            Err(BadToken::Length)
        } else if text.contains(char::is_control) {
            Err(BadToken::Control)
        } else if text.trim() != text {
            Err(BadToken::OuterSpace)
        } else {
            Ok(Token(text.to_owned()))
        }
    }

    /// The token in the file, if one is named, or else the one that the environment holds. A variable that
    /// is empty counts as unset.
    ///
    /// ```no_run
    /// # use socket_tables::Token;
    /// let token = Token::find(Some("/run/secrets/st".as_ref()), None)?;
    /// let options = socket_tables::ClientOptions { token, ..Default::default() };
    /// # Ok::<(), socket_tables::protocol::TokenError>(())
    /// ```
    pub fn find(file: Option<&Path>, variable: Option<OsString>) -> Result<Option<Token>, TokenError> {
        let (place, text) = match (file, variable.filter(|text| !text.is_empty())) {
            (Some(file), _) => (file, first_line(file)?),
            (None, Some(text)) => {
                (Path::new(TOKEN_VARIABLE), text.into_string().map_err(|_| TokenError::NotUtf8)?)
            }
            (None, None) => return Ok(None),
        };
        Token::new(&text).map(Some).map_err(|problem| TokenError::Bad(place.to_owned(), problem))
    }

    /// The secret itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether what a client has shown is the token. The time this takes tells nothing about where
    /// the two differ: every byte shown is compared, and the result is only looked at when all are. A comparison
    /// that stopped at the first difference would let a patient stranger find one byte after another.
    pub fn matches(&self, shown: &str) -> bool {
        let secret = self.0.as_bytes();
        let mut difference = secret.len() ^ shown.len();
        for (at, byte) in shown.bytes().enumerate() {
            difference |= usize::from(byte ^ secret[at % secret.len()]);
        }
        black_box(difference) == 0
    }
}

/// The first line of a file that is private.
fn first_line(path: &Path) -> Result<String, TokenError> {
    let unreadable = |error| TokenError::Unreadable(path.to_owned(), error);
    let file = File::open(path).map_err(unreadable)?;
    // The open file is asked, not its name, which could come to mean another file in between.
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&file.metadata().map_err(unreadable)?.permissions()) & 0o077
        != 0
    {
        return Err(TokenError::NotPrivate(path.to_owned()));
    }
    let mut line = Vec::new();
    // Bounded, since it may be any file: what does not end here is too long, and may end within a character.
    BufReader::new(file.take(TOKEN_BYTES_MAX as u64 + 2)).read_until(b'\n', &mut line).map_err(unreadable)?;
    if line.len() > TOKEN_BYTES_MAX + 1 && !line.ends_with(b"\r\n") {
        return Err(TokenError::Bad(path.to_owned(), BadToken::Length));
    }
    let line = io::read_to_string(&*line).map_err(unreadable)?;
    Ok(line.lines().next().unwrap_or_default().to_owned())
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::Unreadable(path, error) => {
                write!(f, "cannot read the token from {}: {error}", path.display())
            }
            TokenError::NotPrivate(path) => {
                let path = path.display();
                write!(f, "others may use the token file {path}: make it private with chmod 600 {path}")
            }
            TokenError::NotUtf8 => write!(f, "{TOKEN_VARIABLE} is not UTF-8 text"),
            TokenError::Bad(place, problem) => write!(f, "{}: {problem}", place.display()),
        }
    }
}

impl fmt::Display for BadToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadToken::Length => {
                write!(f, "a token must have 1 to {TOKEN_BYTES_MAX} bytes, escaped as in JSON")
            }
            BadToken::Control => f.write_str("a token must not hold control characters"),
            BadToken::OuterSpace => f.write_str("a token must not begin or end with a space"),
        }
    }
}

impl std::error::Error for BadToken {}

impl std::error::Error for TokenError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(test: &str) -> PathBuf {
        let file = std::env::temp_dir().join(format!("st-services-{}-{test}", std::process::id()));
        let text = "# a comment\nlife 70000/tcp\nLIFE_GEN\t7001/udp\nLIFE_GEN 7002/tcp life_gen lg # lg2\n\
                    \u{fffd}broken\nlast 65535/tcp";
        std::fs::write(&file, text).unwrap();
        file
    }

    #[test]
    fn every_form_of_address_is_read_and_written() {
        let file = services("forms");
        for (text, read) in [
            ("7777", "127.0.0.1:7777"),
            ("0", "127.0.0.1:0"),
            ("65535", "127.0.0.1:65535"),
            ("localhost:80", "localhost:80"),
            ("box-1.example.org:080", "box-1.example.org:80"),
            ("[::1]:7777", "[::1]:7777"),
            ("[fe80::1%2]:7777", "[fe80::1%2]:7777"),
            ("0.0.0.0:1", "0.0.0.0:1"),
            ("LIFE_GEN", "127.0.0.1:7002"),
            ("box:lg", "box:7002"),
            ("last", "127.0.0.1:65535"),
            ("", "Malformed"),
            (":", "Malformed"),
            (":7777", "Malformed"),
            ("box:", "Malformed"),
            ("box :1", "Malformed"),
            ("-5", "UnknownService"),
            ("+80", "Malformed"),
            ("http://box:80", "Malformed"),
            ("a/b:80", "Malformed"),
            ("65536", "Malformed"),
            ("box:99999999999999999999", "Malformed"),
            ("::1", "Malformed"),
            ("::1:7777", "Malformed"),
            ("[::1]", "Malformed"),
            ("[box]:7777", "Malformed"),
            ("life", "UnknownService"),
            ("lg2", "UnknownService"),
            ("life_GEN", "UnknownService"),
        ] {
            match Address::parse_with(text, &file) {
                Ok(address) => assert_eq!(address.to_string(), read, "{text}"),
                Err(error) => assert!(format!("{error:?}").starts_with(read), "{text}: {error:?}"),
            }
        }
        std::fs::remove_file(&file).unwrap();
        let missing = Address::parse_with("lg", &file).unwrap_err().to_string();
        assert!(missing.contains(&*file.to_string_lossy()), "{missing}");
    }

    #[test]
    fn an_unknown_service_says_which_file_was_read() {
        let file = services("unknown");
        let error = Address::parse_with("localhost", &file).unwrap_err().to_string();
        std::fs::remove_file(&file).unwrap();
        assert!(error.contains(&*file.to_string_lossy()) && error.contains("localhost:PORT"), "{error}");
    }

    #[test]
    fn localhost_is_both_loopback_addresses() {
        let all = Address::parse("LocalHost:9").unwrap().resolve().unwrap();
        assert_eq!(all, ["127.0.0.1:9".parse().unwrap(), "[::1]:9".parse().unwrap()]);
        assert_eq!(Address::parse("9").unwrap().resolve().unwrap(), ["127.0.0.1:9".parse().unwrap()]);
    }
}
