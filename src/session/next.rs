//! What a session asks of whoever moves its bytes.

/// What a session needs before it can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// More bytes from the client.
    Read,
    /// Its output taken.
    Write,
    /// A change to tell: [`wait`](super::Session::wait) for it, and look now and then whether the client is
    /// still there.
    Wait,
    /// Nothing: close the connection.
    Close,
}

/// Why a client was turned away, where an operator wants to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// It spoke HTTP.
    Http,
    /// It showed a token, and not the right one.
    Auth,
}
