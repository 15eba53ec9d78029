//! How a table of the file is described: its keys, what each means, its type, default and range.
//! The reader, the JSON Schema and the dump all work from these descriptions, so that they cannot
//! disagree.
//!
//! The descriptions themselves are in `keys` and `limits`.

/// A table of the file.
#[derive(Debug)]
pub(super) struct Table {
    /// What it is for, in one or two sentences.
    pub(super) doc: &'static str,
    /// Every key it may have.
    pub(super) keys: &'static [Key],
}

impl Table {
    /// The key called `name`.
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// A key of a table.
#[derive(Debug)]
pub(super) struct Key {
    /// As written in the file.
    pub(super) name: &'static str,
    /// What it means.
    pub(super) doc: &'static str,
    /// Must it be there?
    pub(super) presence: Presence,
    /// What its value is.
    pub(super) kind: Kind,
}

/// Must a key be there?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// Yes.
    Required,
    /// No.
    Optional,
}

/// What a value is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// `true` or `false`.
    Flag {
        /// Without one, the documentation of the key says what holds.
        default: Option<bool>,
    },
    /// A string; `${NAME}` is replaced.
    Text {
        /// Without one, an absent key means what its documentation says.
        default: Option<&'static str>,
    },
    /// The name of a listener, route, upstream or filter; taken as written.
    Name,
    /// What people call a version of a filter; taken as written.
    Version,
    /// A list of names.
    Names {
        /// Names in the list, at most.
        max: usize,
    },
    /// One of a few words.
    Choice {
        /// The words.
        values: &'static [&'static str],
        /// One of them; without one, an absent key means what its documentation says.
        default: Option<&'static str>,
    },
    /// A duration, size or count within a range.
    Limit(Limit),
    /// A list of strings.
    Texts {
        /// Strings in the list, at most.
        max: usize,
    },
    /// A string or a list of strings.
    OneOrMany {
        /// Strings in the list, at most.
        max: usize,
    },
    /// A table of its own.
    Table(&'static Table),
    /// `true` for the defaults, `false` for none, or a table.
    FlagOrTable(&'static Table),
    /// `[[name]]`, any number of times.
    Tables {
        /// Each of them.
        table: &'static Table,
        /// Times at most.
        max: usize,
    },
    /// `[name.NAME]`, any number of times.
    NamedTables {
        /// Each of them.
        table: &'static Table,
        /// Times at most.
        max: usize,
    },
    /// Field names with what is asked of their values.
    HeaderMatches {
        /// Fields at most.
        max: usize,
    },
    /// A table of anything: the filter judges it.
    Free,
    /// What its documentation says, in one of several forms.
    Any,
}

/// A number with a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    /// What is counted.
    pub(super) unit: Unit,
    /// Without one, the documentation of the key says what holds.
    pub(super) default: Option<u64>,
    /// The smallest value accepted.
    pub(super) min: u64,
    /// The largest value accepted.
    pub(super) max: u64,
}

impl Limit {
    /// A value of this limit as it is written in a file.
    pub(super) fn format(&self, value: u64) -> String {
        match self.unit {
            Unit::Duration => crate::units::format_duration(value),
            Unit::Size => crate::units::format_size(value),
            Unit::Count => value.to_string(),
            Unit::Percent => crate::units::format_percent(value),
        }
    }
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Microseconds, written with a unit.
    Duration,
    /// Bytes, written with a unit or as a plain number.
    Size,
    /// A plain number.
    Count,
    /// Millionths, written in percent.
    Percent,
}
