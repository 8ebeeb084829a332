//! Actions: what the server does for a name that is not one of the table's own requests.
//!
//! An action is a function from a request's `data` to a value, registered under a name. The built-in ones
//! sit in the same table as anybody's and are called the same way, so whoever wants to write one starts
//! from ECHO. The table is filled before the server runs and only read afterwards: finding an action takes
//! no lock. Whatever actions share, they hold themselves (a closure over an `Arc`, say).
//!
//! An action's failure is its caller's business and nobody else's: an error becomes the error reply, a
//! panic is caught here and becomes one too, and the connection and the worker go on.
//!
//! Deliberately absent: sockets; replacing or removing an action while the server runs (a name means one
//! thing for as long as it does); a time limit for actions written in Rust (a thread cannot be killed; a
//! program can).
//!
//! - `builtin` has the actions that are always there.
//! - `program` makes an action of a program, and runs programs.
//! - `job` ends a program with all it started.

mod builtin;
mod job;
mod program;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::error;
use std::fmt::{self, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

pub(crate) use builtin::host_name;
pub use builtin::rfc3339;
pub use job::adopt_orphans;
pub(crate) use job::{die_of, end_orphans};
pub(crate) use program::find_program;
pub use program::{Limits, Program};

use crate::json::{DEPTH_MAX, JsonText, Value};
use crate::protocol::{Code, Failure, Spec, Verb, did_you_mean, excerpt};

/// What an action gives back: the reply's value, or why there is none. A closure may give any `V` that becomes JSON,
/// `Ok("open")` or `Ok(7)`; a method, whose type is fixed, gives JSON text, by `.into()`.
pub type Outcome<V = JsonText<'static>> = Result<V, Failure>;

/// An action's value leaves room for as many levels as a stored one, which a listing puts two around.
const ROOM_LEVELS: usize = 2;

/// An action's name is at most this long.
const NAME_BYTES_MAX: usize = 64;

/// The name of the action that gets whatever has no other name. No request can say it.
pub const FALLBACK: &str = "*";

/// Something the server can be asked to do by name: a closure (see [`Server::action`](crate::server::Server::action)),
/// or a struct, which may hold state and settings (see [`Server::action_by`](crate::server::Server::action_by)):
///
/// ```
/// use socket_tables::actions::{Action, Actions, Call, Outcome};
///
/// struct Greet { greeting: &'static str }
///
/// impl Action for Greet {
///     fn call(&self, call: &Call<'_>) -> Outcome {
///         Ok(format!("{}, {}!", self.greeting, call.data_str()?).into())
///     }
/// }
///
/// let mut actions = Actions::default();
/// actions.register("GREET", "NAME", "a greeting", Greet { greeting: "Good day" })?;
/// assert_eq!(actions.call("GREET", Some("Ada".into())), Ok("Good day, Ada!".into()));
/// # Ok::<(), socket_tables::actions::RegisterError>(())
/// ```
pub trait Action: Send + Sync {
    /// Answers one call. Many threads call at once. An error is sent to the client as it is; any
    /// standard error turns into `action_failed` by `?`.
    fn call(&self, call: &Call<'_>) -> Outcome;
}

impl<F, V> Action for F
where
    F: Fn(&Call<'_>) -> Outcome<V> + Send + Sync,
    V: Into<JsonText<'static>>,
{
    fn call(&self, call: &Call<'_>) -> Outcome {
        self(call).map(V::into)
    }
}

/// One request to an action.
///
/// ```
/// use socket_tables::actions::Actions;
///
/// let mut actions = Actions::default();
/// actions.add("KIND", |call| Ok(call.data().map_or("none", |_| "some")))?;
/// actions.add("LENGTH", |call| Ok(call.data_str()?.len()))?;
/// actions.add("AGE", |call| Ok(call.value().get("age").and_then(|age| age.as_u64()).unwrap_or(0)))?;
/// assert_eq!(actions.call("KIND", None), Ok("none".into()));
/// assert_eq!(actions.call("LENGTH", Some("door".into())), Ok(4.into()));
/// assert!(actions.call("LENGTH", None).is_err_and(|failure| failure.message.contains("a string")));
/// # Ok::<(), socket_tables::actions::RegisterError>(())
/// ```
pub struct Call<'a> {
    name: &'a str,
    data: Option<JsonText<'a>>,
    /// The registry: where the built-in actions find what they share.
    actions: &'a Actions,
}

impl<'a> Call<'a> {
    /// The name the action was called by.
    pub fn name(&self) -> &str {
        self.name
    }

    /// The argument as JSON text, if there is one.
    pub fn data(&self) -> Option<&JsonText<'a>> {
        self.data.as_ref()
    }

    /// The argument, which has to be a string; anything else, or none, is `bad_request`.
    pub fn data_str(&self) -> Result<Cow<'_, str>, Failure> {
        self.data.as_ref().and_then(JsonText::as_string).ok_or_else(|| self.needs("a string"))
    }

    /// The argument as a tree; null where there is none.
    pub fn value(&self) -> Value {
        self.data.as_ref().map_or(Value::Null, JsonText::to_value)
    }

    fn needs(&self, what: &str) -> Failure {
        Failure::new(Code::BadRequest, format!("{} needs \"data\": {what}", self.name))
    }

    fn failed(&self, how: impl Display) -> Failure {
        Failure::action(format!("{} {how}", self.name))
    }
}

/// What the registry holds of an action beside its name.
struct Entry {
    args: String,
    help: String,
    action: Box<dyn Action>,
    origin: Origin,
}

/// Who made an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// It is one of ours.
    BuiltIn { may_take_long: bool },
    /// It was registered, perhaps in the place of one of ours. Nobody knows how long it takes.
    Registered,
}

/// The registry: every action by its name, and what the built-in ones share.
pub struct Actions {
    /// Whether clients may run programs of their choice by EXEC. Whoever can connect can then do whatever
    /// the server's user can: see to it that a token is set.
    pub exec_allowed: bool,
    /// What programs may use.
    pub limits: Limits,
    /// What INFO answers: what the server knows of itself, and nobody here.
    pub info: Box<dyn Fn() -> Value + Send + Sync>,
    table: BTreeMap<String, Entry>,
    /// When the last program must have ended, once the server is to end.
    programs_due: OnceLock<Instant>,
    /// How many programs run, for the limit on them.
    running: program::Running,
    /// The JSON of the commands that EXEC ran, the oldest first.
    history: Mutex<VecDeque<JsonText<'static>>>,
}

impl Default for Actions {
    /// The built-in actions; EXEC refuses.
    fn default() -> Actions {
        let mut actions = Actions {
            exec_allowed: false,
            limits: Limits::default(),
            info: Box::new(|| Value::Null),
            table: BTreeMap::new(),
            programs_due: OnceLock::new(),
            running: program::Running::default(),
            history: Mutex::default(),
        };
        for (name, args, help, may_take_long, action) in builtin::ACTIONS {
            actions.insert(name, args, help, Box::new(action), Origin::BuiltIn { may_take_long });
        }
        actions
    }
}

impl Actions {
    /// Adds a closure under a new name, as [`Server::action`](crate::server::Server::action) does; this is the way in a loop.
    ///
    /// ```
    /// # let mut server = socket_tables::server::Server::bind("0")?;
    /// for (name, times) in [("TWICE", 2), ("THRICE", 3)] {
    ///     server.actions().add(name, move |call| Ok(call.data_str()?.repeat(times)))?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn add<V: Into<JsonText<'static>>>(
        &mut self,
        name: &str,
        // Spelt out here, since by this bound alone Rust infers the type of a closure's argument.
        action: impl Fn(&Call<'_>) -> Outcome<V> + Send + Sync + 'static,
    ) -> Result<(), RegisterError> {
        self.add_by(name, action)
    }

    /// As [`Actions::add`], by a struct.
    pub fn add_by(&mut self, name: &str, action: impl Action + 'static) -> Result<(), RegisterError> {
        let (args, help) = match name {
            FALLBACK => ("", "whatever has no other name"),
            _ => ("[DATA]", "an action of this server's own"),
        };
        self.register(name, args, help, action)
    }

    /// Adds an action, and what INFO tells of it, under a new name: a capital letter, then capitals, digits, `_` and `-`.
    /// It may also take the place of ECHO, TIME or HELLO. Under the name [`FALLBACK`] it gets each request that has no
    /// other name.
    pub fn register(
        &mut self,
        name: &str,
        args: &str,
        help: &str,
        action: impl Action + 'static,
    ) -> Result<(), RegisterError> {
        let is_tail = |c: &u8| matches!(c, b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-');
        match name.as_bytes() {
            _ if name == FALLBACK => {}
            [b'A'..=b'Z', tail @ ..] if tail.len() < NAME_BYTES_MAX && tail.iter().all(is_tail) => {}
            _ => return Err(RegisterError::BadName(name.to_owned())),
        }
        // Of the others, clients rely on what they answer (INFO, HISTORY), or an operator on what they refuse (EXEC).
        let is_free = match self.table.get(name).map(|entry| entry.origin) {
            Some(Origin::BuiltIn { .. }) => matches!(name, "ECHO" | "TIME" | "HELLO"),
            Some(Origin::Registered) => false,
            None => Verb::from_word(name).is_none(),
        };
        if !is_free {
            return Err(RegisterError::Taken(name.to_owned()));
        }
        self.insert(name, args, help, Box::new(action), Origin::Registered);
        Ok(())
    }

    fn insert(&mut self, name: &str, args: &str, help: &str, action: Box<dyn Action>, origin: Origin) {
        let entry = Entry { args: args.to_owned(), help: help.to_owned(), action, origin };
        self.table.insert(name.to_owned(), entry);
    }

    /// Whether a call may take so long that nothing should wait for it.
    pub fn may_take_long(&self, name: &str) -> bool {
        let quick = Origin::BuiltIn { may_take_long: false };
        self.table.get(name).is_some_and(|entry| entry.origin != quick)
    }

    /// Calls the action of this name. Fails with `unknown_request` where there is none, with the action's
    /// own error, or with `action_failed` where it panics or its value is nested deeper than a stored one
    /// may be, 126 levels.
    pub fn call(&self, name: &str, data: Option<JsonText<'_>>) -> Outcome {
        let entry = self.table.get(name).ok_or_else(|| self.unknown(name, true))?;
        let call = Call { name, data, actions: self };
        // The only state of ours that actions change is the history, and none of its steps can panic halfway.
        // Whatever else an action holds is its author's to guard.
        let answer = catch_unwind(AssertUnwindSafe(|| entry.action.call(&call))).unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(call.failed(format_args!("panicked: {}", excerpt(said.as_bytes()))))
        })?;
        // Ours need no look: ECHO only gives back what stood as deep in the request as it will in the reply.
        if entry.origin == Origin::Registered && !answer.leaves_room(ROOM_LEVELS) {
            let levels = DEPTH_MAX - ROOM_LEVELS;
            return Err(call.failed(format_args!("gave a value nested deeper than {levels} levels")));
        }
        Ok(answer)
    }

    /// Has programs end by then, whatever their limits grant them. Those that still run are killed, and so is the next.
    pub fn end_programs(&self, due: Instant) {
        // Whoever says it first has said it.
        let _ = self.programs_due.set(due);
    }

    /// Every request there is: those of the protocol, then the actions by name.
    pub fn specs(&self) -> impl Iterator<Item = Spec<'_>> {
        let actions =
            self.table.iter().map(|(name, entry)| Spec { name, args: &entry.args, help: &entry.help });
        Verb::ALL.iter().map(|verb| verb.spec()).chain(actions)
    }

    /// The names of [`specs`](Actions::specs).
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.specs().map(|spec| spec.name)
    }

    /// Whether there is an action of this name.
    pub fn knows(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// The refusal of a name that no request and no action has. To look for the name that was meant costs as
    /// much as some GETs.
    pub fn unknown(&self, name: &str, hint: bool) -> Failure {
        let near = if hint { did_you_mean(name, self.names()) } else { None };
        let name = excerpt(name.as_bytes());
        // `format!` would cost a fifth of such a refusal, and some clients send nothing else.
        let message = match near {
            Some(near) => ["no request is named ", &name, ": did you mean ", near, "?"].concat(),
            None => ["no request is named ", &name, ": INFO tells what there is"].concat(),
        };
        Failure::new(Code::UnknownRequest, message)
    }
}

/// Why a name was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterError {
    /// A request or an action has this name already.
    Taken(String),
    /// This is no name that an action can have.
    BadName(String),
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegisterError::Taken(name) => write!(f, "the name {name} is taken already"),
            RegisterError::BadName(name) => write!(
                f,
                "{name:?} is no name for an action: a capital letter, then capitals, digits, '_' and '-', \
                 {NAME_BYTES_MAX} bytes at most; or '*', for whatever has no other name"
            ),
        }
    }
}

impl error::Error for RegisterError {}
