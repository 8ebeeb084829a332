//! A request, as both sides know it: the client writes one, the server reads it.

use std::borrow::Cow;

use crate::json::Text;

/// One request. Keys have been checked; values are JSON text without white space outside strings.
#[derive(Clone, Debug, PartialEq)]
pub enum Request<'a> {
    /// The value of a key.
    Get {
        /// The key.
        key: Cow<'a, str>,
    },
    /// Set a key.
    Update {
        /// The key.
        key: Cow<'a, str>,
        /// Its new value.
        value: Text<'a>,
        /// What must hold for the write to happen.
        condition: Option<Condition<'a>>,
    },
    /// Add to a number.
    Increment {
        /// The key.
        key: Cow<'a, str>,
        /// What to add.
        by: i128,
    },
    /// Remove a key.
    Delete {
        /// The key.
        key: Cow<'a, str>,
        /// What must hold for the removal to happen.
        condition: Option<Condition<'a>>,
    },
    /// Every key and value under a prefix, sorted by key.
    GetAll {
        /// What the keys begin with; empty for all.
        prefix: Cow<'a, str>,
    },
    /// The keys under a prefix, sorted.
    Keys {
        /// What the keys begin with; empty for all.
        prefix: Cow<'a, str>,
    },
    /// How many keys there are under a prefix.
    Count {
        /// What the keys begin with; empty for all.
        prefix: Cow<'a, str>,
    },
    /// Be told of changes.
    Watch {
        /// Of this one key, or of every key that begins so.
        scope: Scope<'a>,
    },
    /// Show the token.
    Auth {
        /// The secret that the server was started with.
        token: Cow<'a, str>,
    },
    /// End the connection.
    Close,
    /// An action by name: built in (HELLO, TIME, ECHO, INFO, EXEC, HISTORY) or registered.
    Call {
        /// The action's name.
        name: Cow<'a, str>,
        /// Its argument, if any.
        data: Option<Text<'a>>,
    },
}

/// What a WATCH is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// One key.
    Key(Cow<'a, str>),
    /// Every key that begins so; empty for all.
    Prefix(Cow<'a, str>),
}

/// What must hold for a write to happen.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition<'a> {
    /// The key has no value.
    Absent,
    /// The key's value equals this JSON: numbers by value, objects regardless of member order.
    Equals(Text<'a>),
}
