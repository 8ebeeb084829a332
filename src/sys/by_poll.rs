//! The poller by poll(2), for systems without epoll. It hands the kernel the whole list each time.

use super::*;

pub struct Poller(Vec<(PollFd, u64)>);

impl Poller {
    pub fn new() -> io::Result<Poller> {
        Ok(Poller(Vec::new()))
    }

    pub fn add(&mut self, fd: impl AsFd, number: u64, interest: Interest) -> io::Result<()> {
        let fd = PollFd { fd: fd.as_fd().as_raw_fd(), events: interest as i16, revents: 0 };
        self.0.push((fd, number));
        Ok(())
    }

    pub fn remove(&mut self, fd: impl AsFd) -> io::Result<()> {
        let fd = fd.as_fd().as_raw_fd();
        let at = self.0.iter().position(|(polled, _)| polled.fd == fd).ok_or(ErrorKind::NotFound)?;
        self.0.swap_remove(at);
        Ok(())
    }

    pub fn change(&mut self, fd: impl AsFd, number: u64, interest: Interest) -> io::Result<()> {
        self.remove(&fd)?;
        self.add(fd, number, interest)
    }

    pub fn wait(&mut self, found: &mut Vec<u64>, timeout: Option<Duration>) -> io::Result<()> {
        let mut fds: Vec<PollFd> = self.0.iter().map(|(fd, _)| *fd).collect();
        ready(poll_all(&mut fds, timeout))?;
        let all = fds.iter().zip(&self.0);
        found.clear();
        found.extend(all.filter(|(fd, _)| fd.revents != 0).map(|(_, (_, number))| *number));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Poller as OfThisSystem;
    use super::*;
    use std::io::{Read, Write, pipe};

    macro_rules! tells_what_is_ready {
        ($($name:ident: $poller:ty,)*) => { $(
            #[test]
            fn $name() {
                let (mut poller, mut found) = (<$poller>::new().unwrap(), vec![99]);
                let mut wait = |poller: &mut $poller| {
                    poller.wait(&mut found, Some(Duration::from_millis(5))).unwrap();
                    found.clone()
                };
                let (mut reader, mut writer) = pipe().unwrap();
                poller.add(&reader, 7, Interest::Read).unwrap();
                assert_eq!(wait(&mut poller), [], "nothing to read yet");
                writer.write_all(b"ab").unwrap();
                assert_eq!(wait(&mut poller), [7]);
                reader.read_exact(&mut [0]).unwrap();
                assert_eq!(wait(&mut poller), [7], "it is told again for as long as it is so");
                reader.read_exact(&mut [0]).unwrap();
                poller.add(&writer, 8, Interest::Write).unwrap();
                assert_eq!(wait(&mut poller), [8]);
                poller.change(&writer, 9, Interest::HangUp).unwrap();
                assert_eq!(wait(&mut poller), []);
                poller.remove(&writer).unwrap();
                assert!(poller.remove(&writer).is_err());
                drop(writer);
                assert_eq!(wait(&mut poller), [7], "an end is there to be read");
                poller.remove(&reader).unwrap();
                assert_eq!(wait(&mut poller), []);
            }
        )* };
    }
    tells_what_is_ready! { of_this_system: OfThisSystem, by_poll: Poller, }
}
