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
