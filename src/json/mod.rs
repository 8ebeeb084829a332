//! JSON, as RFC 8259 defines it: nothing more is accepted, nothing less.

mod error;
mod number;
mod parser;
mod scan;
mod short;
mod string;
mod text;
mod value;
mod write;

pub use error::{Error, Kind};
pub use number::Number;
pub use parser::{DEPTH_MAX, Parser, Sink};
pub use short::Short;
pub use string::Str;
pub use text::Text;
pub(crate) use value::utf8;
pub use value::{Object, Value};
pub(crate) use write::Writer;
pub use write::write_str;
