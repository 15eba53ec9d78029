//! Reads tables of the parsed file by their descriptions: types, ranges, unknown and missing keys.
//! A value that cannot be used is reported, and a usable one takes its place, so that one run finds
//! every problem.
//!
//! Knows nothing of what values mean to each other; `check` does.

use std::borrow::Cow;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::expand::Syntax;
use super::problems::{Context, Span};
use super::spec::{Key, Kind, Limit, Presence, Table, Unit};
use super::words::{did_you_mean, join, name_problem, quoted, shortened, version_problem};
use crate::units::{UnitError, parse_duration, parse_percent, parse_size};

/// A value of the parsed file.
pub(super) type Node<'t> = Spanned<DeValue<'t>>;

/// A string of the file, its references replaced.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) value: String,
    pub(super) span: Span,
    /// Did it come from the environment or from a file?
    pub(super) secret: bool,
}

impl Text {
    /// The value as a message may show it.
    pub(super) fn shown(&self) -> Cow<'_, str> {
        if self.secret { "<redacted>".into() } else { shortened(&self.value) }
    }
}

/// Why a value is no number.
enum NoNumber {
    /// It is below every range.
    Negative,
    /// It is of another type, or has no unit.
    Malformed,
    /// Its references could not be replaced, which is reported.
    Reported,
}

/// A table, present or not. Where it is not, every key has its default.
pub(super) struct TableReader<'c, 't> {
    pub(super) context: &'c Context<'c>,
    /// The table's header, or the key it belongs to.
    pub(super) span: Span,
    table: &'static Table,
    path: String,
    entries: Option<&'t DeTable<'t>>,
}

impl<'c, 't> TableReader<'c, 't> {
    /// Reports keys that are unknown, and those that are missing.
    pub(super) fn new(
        context: &'c Context<'c>,
        table: &'static Table,
        path: String,
        entries: &'t DeTable<'t>,
        span: Span,
    ) -> Self {
        for (key, value) in entries.iter() {
            let name: &str = key.get_ref();
            // As in `filters`: a table has no better place than its key.
            let place = if value.get_ref().is_table() { key.span() } else { value.span() };
            context.locate(join(&path, name), place);
            if table.key(name).is_none() && !context.count_if_full() {
                let known: Vec<&str> = table.keys.iter().map(|key| key.name).collect();
                let help = did_you_mean(name, known.iter().copied())
                    .unwrap_or_else(|| format!("known here: {}", quoted(&known)));
                context.error(key.span(), format!("unknown key `{}`", shortened(name)), help);
            }
        }
        for key in table.keys {
            if key.presence == Presence::Required && !entries.contains_key(key.name) {
                let place = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
                let message = format!("missing key `{}`{place}", key.name);
                context.absence(span.clone(), message, format!("`{}`: {}", key.name, key.doc));
            }
        }
        Self { context, span, table, path, entries: Some(entries) }
    }

    /// The table's path, as in `listener[0].limits`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Where the key is, or else the table.
    pub(super) fn span_of(&self, name: &str) -> Span {
        self.node(name).map_or_else(|| self.span.clone(), Spanned::span)
    }

    /// Is the key there?
    pub(super) fn has(&self, name: &str) -> bool {
        self.node(name).is_some()
    }

    /// The value of a key as it was parsed.
    pub(super) fn node(&self, name: &str) -> Option<&'t Node<'t>> {
        self.entries.and_then(|entries| entries.get(name))
    }

    /// `true` or `false`; none: absent and without a default.
    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        let Kind::Flag { default } = self.kind(name) else { unreachable_kind(name) };
        let Some(node) = self.node(name) else { return default };
        let DeValue::Boolean(value) = node.get_ref() else {
            self.wrong_type(name, node, "`true` or `false`");
            return default;
        };
        Some(*value)
    }

    /// A string; none: absent and without a default, or unusable.
    pub(super) fn text(&self, name: &str) -> Option<Text> {
        let Kind::Text { default } = self.kind(name) else { unreachable_kind(name) };
        match self.node(name) {
            Some(node) => self.expanded(name, node, join(&self.path, name)),
            None => default.map(|value| Text {
                value: value.to_owned(),
                span: self.span.clone(),
                secret: false,
            }),
        }
    }

    /// A name, valid as such; none: absent or unusable.
    pub(super) fn name(&self, name: &str) -> Option<Text> {
        let Kind::Name = self.kind(name) else { unreachable_kind(name) };
        self.as_name(name, self.node(name)?)
    }

    /// What people call a version, valid as such; none: absent or unusable.
    pub(super) fn version(&self, name: &str) -> Option<Text> {
        let Kind::Version = self.kind(name) else { unreachable_kind(name) };
        let node = self.node(name)?;
        self.as_written(name, node, "the name of a version", "version", version_problem)
    }

    /// A list of names, those that are valid.
    pub(super) fn names(&self, name: &str) -> Vec<Text> {
        let Kind::Names { max } = self.kind(name) else { unreachable_kind(name) };
        let Some(node) = self.node(name) else { return Vec::new() };
        let DeValue::Array(items) = node.get_ref() else {
            self.wrong_type(name, node, "a list of names");
            return Vec::new();
        };
        let items = self.bounded(name, node, items.len(), max, items.iter());
        items.filter_map(|item| self.as_name(name, item)).collect()
    }

    /// One of a few words; the default where it is absent.
    pub(super) fn choice(&self, name: &str) -> &'static str {
        self.choice_if_any(name).unwrap_or_else(|| unreachable_kind(name))
    }

    /// One of a few words; none: there is no default, and it is absent or unusable.
    pub(super) fn choice_if_any(&self, name: &str) -> Option<&'static str> {
        let Kind::Choice { values, default } = self.kind(name) else { unreachable_kind(name) };
        let Some(node) = self.node(name) else { return default };
        let Some(text) = self.expanded(name, node, join(&self.path, name)) else { return default };
        if let Some(value) = values.iter().find(|value| **value == text.value) {
            return Some(value);
        }
        let help = Some(&text)
            .filter(|text| !text.secret)
            .and_then(|text| did_you_mean(&text.value, values.iter().copied()))
            .unwrap_or_else(|| format!("it is one of {}", quoted(values)));
        self.context.error(
            text.span.clone(),
            format!("`{name}` cannot be `{}`", text.shown()),
            help,
        );
        default
    }

    /// A list of strings, or one string where the description says so.
    pub(super) fn texts(&self, name: &str) -> Vec<Text> {
        let (one_is_enough, max) = match self.kind(name) {
            Kind::Texts { max } => (false, max),
            Kind::OneOrMany { max } => (true, max),
            _ => unreachable_kind(name),
        };
        let Some(node) = self.node(name) else { return Vec::new() };
        let path = join(&self.path, name);
        match node.get_ref() {
            DeValue::Array(items) => self
                .bounded(name, node, items.len(), max, items.iter())
                .enumerate()
                .filter_map(|(index, item)| self.expanded(name, item, format!("{path}[{index}]")))
                .collect(),
            DeValue::String(_) if one_is_enough => {
                self.expanded(name, node, path).into_iter().collect()
            }
            _ => {
                let expected = if one_is_enough {
                    "a string or a list of strings"
                } else {
                    "a list of strings"
                };
                self.wrong_type(name, node, expected);
                Vec::new()
            }
        }
    }

    /// A limit with a default.
    pub(super) fn duration(&self, name: &str) -> Duration {
        Duration::from_micros(self.limit(name).unwrap_or_default())
    }

    /// A limit with a default, in bytes.
    pub(super) fn size(&self, name: &str) -> usize {
        self.limit(name).map_or(0, saturating_usize)
    }

    /// A limit with a default.
    pub(super) fn count(&self, name: &str) -> usize {
        self.size(name)
    }

    /// A limit with a default, in millionths.
    pub(super) fn percent(&self, name: &str) -> u64 {
        self.limit(name).unwrap_or_default()
    }

    /// Microseconds, bytes, millionths or a count, within the range; none: absent and without a default, or
    /// unusable.
    pub(super) fn limit(&self, name: &str) -> Option<u64> {
        let Kind::Limit(limit) = self.kind(name) else { unreachable_kind(name) };
        let Some(node) = self.node(name) else { return limit.default };
        let example = limit.format(limit.default.unwrap_or(limit.min));
        let (expected, units) = match limit.unit {
            Unit::Duration => ("a duration", "`us`, `ms`, `s`, `m`, `h`"),
            Unit::Size => ("a size", "`B`, `KiB`, `MiB`, `GiB`"),
            Unit::Count => ("a whole number", ""),
            Unit::Percent => ("a percentage", "`%`"),
        };
        let side = match self.number(name, node, &limit) {
            Ok(value) if value < limit.min => "small",
            Ok(value) if value > limit.max => "large",
            Ok(value) => return Some(value),
            Err(NoNumber::Negative) => "small",
            Err(NoNumber::Reported) => return limit.default,
            Err(NoNumber::Malformed) if limit.unit != Unit::Count => {
                let message = format!("`{name}` has to be {expected}, as in \"{example}\"");
                let help = match limit.unit {
                    Unit::Percent => {
                        "a number with at most four digits after the point, and `%`".into()
                    }
                    _ => format!("a whole number and one of {units}"),
                };
                self.context.error(node.span(), message, help);
                return limit.default;
            }
            Err(NoNumber::Malformed) => {
                self.wrong_type(name, node, &format!("{expected}, as in {example}"));
                return limit.default;
            }
        };
        let (min, max) = (limit.format(limit.min), limit.format(limit.max));
        let message = format!("`{name}` is too {side}");
        self.context.error(node.span(), message, format!("it has to be from {min} to {max}"));
        limit.default
    }

    /// A table; where it is absent, one that has every default.
    pub(super) fn table(&self, name: &str) -> TableReader<'c, 't> {
        let (Kind::Table(table) | Kind::FlagOrTable(table)) = self.kind(name) else {
            unreachable_kind(name)
        };
        self.open(name, table, self.node(name))
    }

    /// The tables of `[[name]]`.
    pub(super) fn tables(&self, name: &str) -> Vec<TableReader<'c, 't>> {
        let Kind::Tables { table, max } = self.kind(name) else { unreachable_kind(name) };
        let Some(node) = self.node(name) else { return Vec::new() };
        let path = join(&self.path, name);
        let DeValue::Array(items) = node.get_ref() else {
            let last = path.rsplit(['.', ']']).next().unwrap_or(name);
            let message = format!("`{last}` has to be a list of tables, not {}", described(node));
            self.context.error(self.key_span(name), message, "write its header with two brackets");
            return Vec::new();
        };
        if items.is_empty() {
            self.context.error(node.span(), format!("`{name}` is empty"), "at least one is needed");
        }
        self.bounded(name, node, items.len(), max, items.iter())
            .enumerate()
            .filter_map(|(index, item)| match item.get_ref() {
                DeValue::Table(entries) => {
                    let path = format!("{path}[{index}]");
                    self.context.locate(path.clone(), item.span());
                    Some(TableReader::new(self.context, table, path, entries, item.span()))
                }
                _ => {
                    self.wrong_type(name, item, "a list of tables");
                    None
                }
            })
            .collect()
    }

    /// The tables of `[name.NAME]`, with their names, in order of those.
    pub(super) fn named_tables(&self, name: &str) -> Vec<(Text, TableReader<'c, 't>)> {
        let Kind::NamedTables { table, max } = self.kind(name) else { unreachable_kind(name) };
        let Some(node) = self.node(name) else { return Vec::new() };
        let DeValue::Table(entries) = node.get_ref() else {
            let message = format!("`{name}` has to be tables by name, not {}", described(node));
            self.context.error(self.key_span(name), message, format!("write `[{name}.NAME]`"));
            return Vec::new();
        };
        let path = join(&self.path, name);
        self.bounded(name, node, entries.len(), max, entries.iter())
            .map(|(key, node)| {
                let value = key.get_ref().to_string();
                if let Some((problem, help)) = name_problem(&value) {
                    let shown = shortened(&value);
                    let message = format!("`{shown}` is no name for `{name}`: {problem}");
                    self.context.error(key.span(), message, help);
                }
                let path = join(&path, &value);
                self.context.locate(path.clone(), key.span());
                let reader = match node.get_ref() {
                    DeValue::Table(entries) => {
                        TableReader::new(self.context, table, path, entries, node.span())
                    }
                    _ => {
                        self.wrong_type(&value, node, "a table");
                        self.absent(table, path)
                    }
                };
                (Text { value, span: key.span(), secret: false }, reader)
            })
            .collect()
    }

    /// A string with its references replaced; anything else is reported.
    pub(super) fn expanded(&self, name: &str, node: &Node<'_>, path: String) -> Option<Text> {
        let DeValue::String(raw) = node.get_ref() else {
            self.wrong_type(name, node, "a string");
            return None;
        };
        self.context.text(raw, node.span(), &path, Syntax::Strict)
    }

    /// The first `max` of the `length` entries of a value; that there are more is reported.
    pub(super) fn bounded<I: Iterator>(
        &self,
        name: &str,
        node: &Node<'_>,
        length: usize,
        max: usize,
        entries: I,
    ) -> std::iter::Take<I> {
        if length > max {
            let message = format!("`{name}` has {length} entries, and {max} is the most");
            self.context.error(node.span(), message, "leave some out");
        }
        entries.take(max)
    }

    /// The kind of header matches says how many there may be.
    pub(super) fn header_matches_max(&self, name: &str) -> usize {
        let Kind::HeaderMatches { max } = self.kind(name) else { unreachable_kind(name) };
        max
    }

    /// Reports a value of another type than the key has.
    pub(super) fn wrong_type(&self, name: &str, node: &Node<'_>, expected: &str) {
        let message = format!("`{}` has to be {expected}", shortened(name));
        self.context.error(node.span(), message, format!("this is {}", described(node)));
    }

    fn open(
        &self,
        name: &str,
        table: &'static Table,
        node: Option<&'t Node<'t>>,
    ) -> TableReader<'c, 't> {
        let path = join(&self.path, name);
        match node.map(|node| (node, node.get_ref())) {
            Some((node, DeValue::Table(entries))) => {
                TableReader::new(self.context, table, path, entries, node.span())
            }
            Some((node, _)) => {
                let or_flag = matches!(self.kind(name), Kind::FlagOrTable(_));
                let expected = if or_flag { "`true`, `false` or a table" } else { "a table" };
                self.wrong_type(name, node, expected);
                self.absent(table, path)
            }
            None => self.absent(table, path),
        }
    }

    fn absent(&self, table: &'static Table, path: String) -> TableReader<'c, 't> {
        let (context, span) = (self.context, self.span.clone());
        TableReader { context, span, table, path, entries: None }
    }

    fn as_name(&self, key: &str, node: &Node<'_>) -> Option<Text> {
        self.as_written(key, node, "a name", "name", name_problem)
    }

    /// A string without references that `problem` has nothing against. `expected` and `noun` are
    /// what messages call it.
    fn as_written(
        &self,
        key: &str,
        node: &Node<'_>,
        expected: &str,
        noun: &str,
        problem: fn(&str) -> Option<(&'static str, String)>,
    ) -> Option<Text> {
        let DeValue::String(raw) = node.get_ref() else {
            self.wrong_type(key, node, expected);
            return None;
        };
        if let Some((problem, help)) = problem(raw) {
            let message = format!("`{}` is no {noun}: {problem}", shortened(raw));
            self.context.error(node.span(), message, help);
            return None;
        }
        Some(Text { value: raw.to_string(), span: node.span(), secret: false })
    }

    fn number(&self, name: &str, node: &Node<'_>, limit: &Limit) -> Result<u64, NoNumber> {
        match (node.get_ref(), limit.unit) {
            (DeValue::Integer(number), Unit::Size | Unit::Count) => match whole_number(number) {
                Some(number) => Ok(number),
                None if number.as_str().starts_with('-') => Err(NoNumber::Negative),
                None => Ok(u64::MAX),
            },
            (DeValue::String(_), unit) => {
                let text = self.expanded(name, node, join(&self.path, name));
                let text = text.ok_or(NoNumber::Reported)?;
                let parsed = match unit {
                    Unit::Duration => parse_duration(&text.value),
                    Unit::Size => parse_size(&text.value),
                    Unit::Count => Err(UnitError::NoUnit),
                    Unit::Percent => parse_percent(&text.value),
                };
                match parsed {
                    Ok(value) => Ok(value),
                    Err(UnitError::TooLarge) => Ok(u64::MAX),
                    // A plain number cannot have a reference, so a string that has one may be one.
                    Err(_) if text.secret && matches!(unit, Unit::Size | Unit::Count) => {
                        text.value.parse().map_err(|_| NoNumber::Malformed)
                    }
                    Err(
                        UnitError::NoNumber
                        | UnitError::NoUnit
                        | UnitError::UnknownUnit
                        | UnitError::TooFine,
                    ) => Err(NoNumber::Malformed),
                }
            }
            _ => Err(NoNumber::Malformed),
        }
    }

    /// The span of the key itself, for values that are whole tables.
    fn key_span(&self, name: &str) -> Span {
        let entry = self.entries.and_then(|entries| entries.get_key_value(name));
        entry.map_or_else(|| self.span.clone(), |(key, _)| key.span())
    }

    fn kind(&self, name: &str) -> Kind {
        let key: Option<&Key> = self.table.key(name);
        key.expect("`check` reads only keys that the table describes").kind
    }
}

/// A key was read as another type than it is described with, which every run of the tests meets.
fn unreachable_kind(name: &str) -> ! {
    unreachable!("`{name}` is read as it is described")
}

/// The whole number that a TOML integer is; none: negative or over 64 bits.
pub(super) fn whole_number(number: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn saturating_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn described(node: &Node<'_>) -> &'static str {
    match node.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
