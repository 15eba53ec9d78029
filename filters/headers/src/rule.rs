//! One rule: an edit of a message's fields, and when it applies.
//!
//! A rule is first made ready against the request, which fixes its value, and then carried out on
//! the message it edits. So the same code serves requests and responses.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use pillion_sdk::{Request, Response, Result};

use crate::condition::{Condition, Seen};
use crate::template::{Template, Values, Variable};

/// An edit, and when it applies.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) edit: Edit,
    pub(crate) when: Condition,
}

/// What is done to the fields. Names are in lower case.
#[derive(Debug)]
pub(crate) enum Edit {
    Set { name: String, value: Template },
    Append { name: String, value: Template },
    Remove { name: String },
    Rename { name: String, to: String },
}

/// An edit with its value in place.
pub(crate) enum Ready<'a> {
    Set { name: &'a str, value: Cow<'a, str> },
    Append { name: &'a str, value: Cow<'a, str> },
    Remove { name: &'a str },
    Rename { name: &'a str, to: &'a str },
}

/// The exchange as conditions and templates see it.
pub(crate) struct Exchange<'a> {
    pub(crate) request: &'a Request,
    /// None while the request is on its way.
    pub(crate) response: Option<&'a Response>,
}

impl Rule {
    /// The edit to carry out; none where the rule does not apply.
    pub(crate) fn ready(&self, exchange: &Exchange<'_>) -> Option<Ready<'_>> {
        if !self.when.holds(exchange) {
            return None;
        }
        Some(match &self.edit {
            Edit::Set { name, value } => Ready::Set { name, value: value.render(exchange) },
            Edit::Append { name, value } => Ready::Append { name, value: value.render(exchange) },
            Edit::Remove { name } => Ready::Remove { name },
            Edit::Rename { name, to } => Ready::Rename { name, to },
        })
    }
}

impl Ready<'_> {
    /// Edit the message.
    pub(crate) fn carry_out(self, message: &mut impl Head) -> Result<()> {
        match self {
            Self::Set { name, value } => message.set(name, &value),
            Self::Append { name, value } => message.append(name, &value),
            Self::Remove { name } => message.remove(name),
            Self::Rename { name, to } => rename(message, name, to),
        }
    }
}

/// Give the lines of `name` the name `to`, in place of the lines that had it. A single line keeps
/// its exact bytes; of several lines those that are not UTF-8 get replacement characters, because
/// the contract has no exact way to add a line.
fn rename(message: &mut impl Head, name: &str, to: &str) -> Result<()> {
    let lines = message.lines(name);
    let Some((first, rest)) = lines.split_first() else { return Ok(()) };
    match message.exact(name) {
        Some(exact) if rest.is_empty() => message.set_exact(to, &exact)?,
        _ => message.set(to, first)?,
    }
    for line in rest {
        message.append(to, line)?;
    }
    message.remove(name)
}

/// The field operations that requests and responses share.
pub(crate) trait Head {
    fn lines(&self, name: &str) -> Vec<String>;
    fn exact(&self, name: &str) -> Option<Vec<u8>>;
    fn set(&mut self, name: &str, value: &str) -> Result<()>;
    fn set_exact(&mut self, name: &str, value: &[u8]) -> Result<()>;
    fn append(&mut self, name: &str, value: &str) -> Result<()>;
    fn remove(&mut self, name: &str) -> Result<()>;
}

macro_rules! head {
    ($message:ty) => {
        impl Head for $message {
            fn lines(&self, name: &str) -> Vec<String> {
                self.header_all(name)
            }

            fn exact(&self, name: &str) -> Option<Vec<u8>> {
                self.header_bytes(name)
            }

            fn set(&mut self, name: &str, value: &str) -> Result<()> {
                Ok(self.set_header(name, value)?)
            }

            fn set_exact(&mut self, name: &str, value: &[u8]) -> Result<()> {
                Ok(self.set_header_bytes(name, value)?)
            }

            fn append(&mut self, name: &str, value: &str) -> Result<()> {
                Ok(self.append_header(name, value)?)
            }

            fn remove(&mut self, name: &str) -> Result<()> {
                self.remove_header(name)?;
                Ok(())
            }
        }
    };
}

head!(Request);
head!(Response);

impl Seen for Exchange<'_> {
    fn method(&self) -> String {
        self.request.method()
    }

    fn path(&self) -> String {
        self.request.path()
    }

    fn header(&self, name: &str) -> Vec<String> {
        self.request.header_all(name)
    }

    fn response_header(&self, name: &str) -> Vec<String> {
        self.response.map_or_else(Vec::new, |response| response.header_all(name))
    }
}

impl Values for Exchange<'_> {
    fn value(&self, variable: &Variable) -> Option<String> {
        match variable {
            Variable::ClientAddress => Some(self.request.client_address()),
            Variable::Method => Some(self.request.method()),
            Variable::Scheme => Some(self.request.scheme()),
            Variable::Authority => Some(self.request.authority()),
            Variable::Path => Some(self.request.path()),
            Variable::Query => self.request.query(),
            Variable::Protocol => Some(self.request.protocol()),
            Variable::Header(name) => self.request.header(name),
            Variable::Note(key) => self.request.note(key),
        }
    }
}
