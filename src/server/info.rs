//! What INFO tells an operator, or a client that wants to know what it can ask.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::Mode;
use crate::actions::Actions;
use crate::json::{Object, Value};
use crate::session::Stats;
use crate::store::Store;

pub(super) struct Info {
    pub stats: Arc<Stats>,
    pub store: Arc<Store>,
    pub mode: Mode,
    pub address: SocketAddr,
    pub started: Instant,
    /// From [`help`].
    pub help: Object,
}

/// Every request with its arguments, and what it is for.
pub(super) fn help(actions: &Actions) -> Object {
    let usage = |name: &str, args: &str| format!("{name} {args}").trim_end().to_owned();
    actions.specs().map(|spec| (usage(spec.name, spec.args), spec.help)).collect()
}

impl Info {
    pub fn value(&self) -> Value {
        let mut info = Object::new();
        info.push("version", env!("CARGO_PKG_VERSION"));
        info.push("mode", self.mode.to_string());
        info.push("address", self.address.to_string());
        info.push("uptime_s", self.started.elapsed().as_secs());
        info.push("keys", self.store.count("") as u64);
        info.push("memory_bytes", self.store.bytes() as u64);
        let (watchers, watch_bytes) = self.store.watchers();
        info.push("watchers", watchers as u64);
        info.push("watch_bytes", watch_bytes as u64);
        for (name, value) in self.stats.members() {
            info.push(name, value);
        }
        info.push("help", self.help.clone());
        Value::Object(info)
    }
}
