//! What a server tells of itself: the reply to INFO. It is gathered where all of it is at hand; the action that
//! answers by it knows no more than that it is a function.

use std::time::Instant;

use super::Server;
use crate::json::{Object, Value};
use crate::protocol::Spec;

impl Server {
    /// What INFO answers: all that an operator may ask, and what a client can ask for. The closure owns
    /// what it reads, since the actions that hold it are a part of this server themselves.
    pub(super) fn info(&self) -> Box<dyn Fn() -> Value + Send + Sync> {
        let (store, stats) = (self.core.store.clone(), self.core.stats.clone());
        let (mode, address, started) = (self.mode, self.address(), Instant::now());
        let usage = |Spec { name, args, help }| (format!("{name} {args}").trim_end().to_owned(), help);
        let help: Object = self.core.actions.specs().map(usage).collect();
        Box::new(move || {
            let (watchers, watch_bytes) = store.watchers();
            let own = [
                ("version", env!("CARGO_PKG_VERSION").into()),
                ("mode", mode.to_string().into()),
                ("address", address.to_string().into()),
                ("uptime_s", started.elapsed().as_secs().into()),
                ("keys", (store.count("") as u64).into()),
                ("memory_bytes", (store.bytes() as u64).into()),
                ("watchers", (watchers as u64).into()),
                ("watch_bytes", (watch_bytes as u64).into()),
            ];
            let journal = store.journal().map(|journal| ("journal", journal.info()));
            let help = [("help", Value::Object(help.clone()))];
            Value::Object(own.into_iter().chain(journal).chain(stats.members()).chain(help).collect())
        })
    }
}
