//! The methods that are one request and its reply: what the table is asked, and what an action is.
//!
//! Each of them makes a [`Request`], has it answered, and takes out of the reply what its caller wants.

use std::time::Duration;

use super::answer::Result;
use super::stream::{ListItem, ListOf, items, next_element, open_list};
use super::{Client, bytes};
use crate::json::{JsonText, Value};
use crate::protocol::{Code, Condition, Request, Scope, duration};

/// What a call brings along: anything that becomes JSON, or by `()` nothing, which an action can tell from null.
#[derive(Clone, Debug)]
pub struct Data(Option<JsonText<'static>>);

impl<V: Into<JsonText<'static>>> From<V> for Data {
    fn from(value: V) -> Data {
        Data(Some(value.into()))
    }
}

impl From<()> for Data {
    fn from((): ()) -> Data {
        Data(None)
    }
}

/// For a caller that learns only as it runs whether there is any.
impl From<Option<Value>> for Data {
    fn from(value: Option<Value>) -> Data {
        Data(value.map(JsonText::from))
    }
}

impl Client {
    /// The value of a key, if it has one.
    #[doc = example!(r#"client.update("door", "open")?;"#
        r#"assert_eq!(client.get("door")?, Some("open".into()));"#)]
    pub fn get(&mut self, key: &str) -> Result<Option<Value>> {
        let answer = self.ask(&Request::Get { key: key.into() })?;
        Ok(answer.found().map(|value| value.to_value()))
    }

    /// The value of a key, or `default` where it has none.
    #[doc = example!(r#"assert_eq!(client.get_or("door", "shut")?, "shut".into());"#)]
    pub fn get_or(&mut self, key: &str, default: impl Into<Value>) -> Result<Value> {
        Ok(self.get(key)?.unwrap_or_else(|| default.into()))
    }

    /// Whether a key has a value.
    #[doc = example!(r#"assert!(!client.exists("door")?);"#)]
    pub fn exists(&mut self, key: &str) -> Result<bool> {
        Ok(!self.ask(&Request::Get { key: key.into() })?.missing)
    }

    /// Sets a value.
    #[doc = example!(r#"client.update("door", "open")?;"#
        r#"client.update("width", 0.9)?;"#)]
    pub fn update(&mut self, key: &str, value: impl Into<Value>) -> Result<()> {
        self.write(key, value, None, None).map(drop)
    }

    /// Sets a value if there is none yet; false where there is.
    #[doc = example!(r#"assert!(client.add("leader", "me")?);"#
        r#"assert!(!client.add("leader", "you")?);"#)]
    pub fn add(&mut self, key: &str, value: impl Into<Value>) -> Result<bool> {
        self.write(key, value, Some(Condition::Absent), None)
    }

    /// Sets a value if the present one equals `present`; false where it does not.
    #[doc = example!(r#"client.update("door", "open")?;"#
        r#"assert!(client.replace("door", "open", "shut")?);"#
        r#"assert!(!client.replace("door", "open", "locked")?);"#)]
    pub fn replace(&mut self, key: &str, present: impl Into<Value>, value: impl Into<Value>) -> Result<bool> {
        self.write(key, value, Some(Condition::Equals(JsonText::from(present.into()))), None)
    }

    /// Sets a value if the condition holds, and tells whether it did. With `ttl` (a millisecond to a year) the server
    /// deletes the key when that is over, unless it was written again before.
    #[doc = example!(r#"use socket_tables::protocol::Condition;"#
        r#"let minute = std::time::Duration::from_secs(60);"#
        r#"assert!(client.write("lock", "me", Some(Condition::Absent), Some(minute))?);"#)]
    pub fn write(
        &mut self,
        key: &str,
        value: impl Into<Value>,
        condition: Option<Condition<'_>>,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        let value = JsonText::from(value.into());
        match self.ask(&Request::Update { key: key.into(), value, condition, ttl }) {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(Code::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a key; what its value was, if it had one.
    #[doc = example!(r#"client.update("door", "open")?;"#
        r#"assert_eq!(client.delete("door")?, Some("open".into()));"#
        r#"assert_eq!(client.delete("door")?, None);"#)]
    pub fn delete(&mut self, key: &str) -> Result<Option<Value>> {
        let answer = self.ask(&Request::Delete { key: key.into(), condition: None })?;
        Ok(answer.found().map(|value| value.to_value()))
    }

    /// Takes a key out, or by [`Scope::Prefix`] the first one by order that begins so, and gives it with the value it had.
    /// Of many who take at once, each gets another entry.
    #[doc = example!(r#"use socket_tables::protocol::Scope;"#
        r#"client.update("job/1", "sweep")?;"#
        r#"let job = client.take(Scope::Prefix("job/".into()))?;"#
        r#"assert_eq!(job, Some(("job/1".to_owned(), "sweep".into())));"#)]
    pub fn take<'s>(&mut self, scope: impl Into<Scope<'s>>) -> Result<Option<(String, Value)>> {
        let answer = self.ask(&Request::Take { scope: scope.into() })?;
        Ok(answer.key.filter(|_| !answer.missing).map(|key| (key, answer.value.to_value())))
    }

    /// How long a key has still to live: `None` where there is no such key, `Some(None)` where it is for ever.
    #[doc = example!(r#"client.update("door", "open")?;"#
        r#"assert_eq!((client.ttl("door")?, client.ttl("window")?), (Some(None), None));"#)]
    pub fn ttl(&mut self, key: &str) -> Result<Option<Option<Duration>>> {
        Ok(self.ask(&Request::Ttl { key: key.into() })?.found().map(|seconds| duration(&seconds)))
    }

    /// Adds to a number, and gives the sum. A missing key counts as 0, a string that is an integer as that.
    #[doc = example!(r#"assert_eq!(client.increment("visits", 1)?, 1);"#
        r#"assert_eq!(client.increment("visits", 41)?, 42);"#)]
    pub fn increment(&mut self, key: &str, by: i128) -> Result<i128> {
        self.integer(&Request::Increment { key: key.into(), by, ttl: None })
    }

    /// How many keys begin so.
    #[doc = example!(r#"client.update("job/1", "sweep")?;"#
        r#"assert_eq!(client.count("job/")?, 1);"#)]
    pub fn count(&mut self, prefix: &str) -> Result<u64> {
        self.integer(&Request::Count { prefix: prefix.into() })
    }

    /// The keys that begin so, sorted.
    #[doc = example!(r#"client.update("job/1", "sweep")?;"#
        r#"assert_eq!(client.keys("job/")?, ["job/1"]);"#)]
    pub fn keys(&mut self, prefix: &str) -> Result<Vec<String>> {
        self.list(prefix, ListOf::Keys)?.map(|item| Ok(item?.key)).collect()
    }

    /// The keys that begin so and their values, sorted by key.
    #[doc = example!(r#"client.update("job/1", "sweep")?;"#
        r#"assert_eq!(client.getall("")?, [("job/1".to_owned(), "sweep".into())]);"#)]
    pub fn getall(&mut self, prefix: &str) -> Result<Vec<(String, Value)>> {
        let entries = self.list(prefix, ListOf::Entries)?;
        entries.map(|item| item.map(|ListItem { key, value, .. }| (key, value.to_value()))).collect()
    }

    /// The keys that begin so, sorted, each as soon as it arrives. However long the list is, one entry is held. It ends
    /// with the first error; a list that is dropped before its end costs the connection, and the next request makes a new one.
    #[doc = example!(r#"use socket_tables::client::ListOf;"#
        r#"client.update("job/1", "sweep")?;"#
        r#"for entry in client.list("job/", ListOf::Entries)? {"#
        r#"    let entry = entry?;"#
        r#"    assert_eq!((&*entry.key, entry.value.as_str()), ("job/1", "\"sweep\""));"#
        r#"}"#)]
    pub fn list(&mut self, prefix: &str, of: ListOf) -> Result<impl Iterator<Item = Result<ListItem>>> {
        // The list of KEYS stands in an object, that of GETALL alone.
        let (request, before, after) = match of {
            ListOf::Keys => (Request::Keys { prefix: prefix.into() }, "{\"value\":", "}"),
            ListOf::Entries => (Request::GetAll { prefix: prefix.into() }, "", ""),
        };
        self.begin(&bytes(&request), |connection| open_list(connection, before))?;
        let scope = Scope::Prefix(prefix.into());
        let elements = items(self.connection.as_mut(), move |open| next_element(open, of, after, &scope));
        Ok(elements.filter_map(Result::transpose))
    }

    /// Runs an action: its value, or [`ClientError::Refused`](super::ClientError::Refused) with what it said went wrong.
    /// `()` is no data, and `Value::Null` is null.
    #[doc = example!(r#"assert_eq!(client.call("ECHO", "hi")?, "hi".into());"#
        r#"assert!(client.call("TIME", ())?.as_str().is_some());"#)]
    pub fn call(&mut self, name: &str, data: impl Into<Data>) -> Result<Value> {
        let Data(data) = data.into();
        Ok(self.ask(&Request::Call { name: name.into(), data })?.value.to_value())
    }

    fn integer<N: TryFrom<i128>>(&mut self, request: &Request<'_>) -> Result<N> {
        let integer = self.ask(request)?.value.as_i128().and_then(|integer| integer.try_into().ok());
        integer.ok_or_else(|| self.bad("it lacks an integer"))
    }
}
