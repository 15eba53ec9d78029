//! A list of field lines with the edits that the host carries out on it.

use super::rules;
use crate::{EditErrorKind, Field};

/// Field lines in order, names in lower case.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields(Vec<Field>);

/// How large a list of field lines may grow by edits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    fields: usize,
    bytes: usize,
}

/// Limits of a head.
pub(super) const HEAD: Limits = Limits { fields: rules::HEAD_FIELDS, bytes: rules::HEAD_BYTES };
/// Limits of a trailer section.
pub(super) const TRAILERS: Limits =
    Limits { fields: rules::TRAILER_FIELDS, bytes: rules::TRAILER_BYTES };

impl Fields {
    /// Field lines as they come from the network: not checked, but for the case of their names.
    pub(super) fn received(lines: Vec<Field>) -> Self {
        let lower = |field: Field| Field { name: field.name.to_ascii_lowercase(), ..field };
        Self(lines.into_iter().map(lower).collect())
    }

    pub(super) fn lines(&self) -> &[Field] {
        &self.0
    }

    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let name = name.to_ascii_lowercase();
        self.0.iter().filter(move |field| field.name == name).map(|field| field.value.as_slice())
    }

    pub(super) fn first(&self, name: &str) -> Option<&[u8]> {
        self.named(name).next()
    }

    /// Puts one line in place of every line of that name.
    pub(super) fn set(
        &mut self,
        name: &str,
        value: &[u8],
        limits: Limits,
    ) -> Result<(), EditErrorKind> {
        let field = checked(name, value)?;
        let mut lines = self.0.clone();
        let at = lines.iter().position(|line| line.name == field.name).unwrap_or(lines.len());
        lines.retain(|line| line.name != field.name);
        lines.insert(at, field);
        self.replace(lines, limits)
    }

    /// Adds a line at the end.
    pub(super) fn append(
        &mut self,
        name: &str,
        value: &[u8],
        limits: Limits,
    ) -> Result<(), EditErrorKind> {
        let field = checked(name, value)?;
        let mut lines = self.0.clone();
        lines.push(field);
        self.replace(lines, limits)
    }

    /// Removes every line of a name; `true`: there was one.
    pub(super) fn remove(&mut self, name: &str) -> Result<bool, EditErrorKind> {
        let name = rules::editable_name(name)?;
        let before = self.0.len();
        self.0.retain(|line| line.name != name);
        Ok(self.0.len() < before)
    }

    fn replace(&mut self, lines: Vec<Field>, limits: Limits) -> Result<(), EditErrorKind> {
        let bytes: usize = lines.iter().map(|line| line.name.len() + line.value.len() + 4).sum();
        if lines.len() > limits.fields || bytes > limits.bytes {
            return Err(EditErrorKind::LimitExceeded);
        }
        self.0 = lines;
        Ok(())
    }
}

fn checked(name: &str, value: &[u8]) -> Result<Field, EditErrorKind> {
    Ok(Field { name: rules::editable_name(name)?, value: rules::field_value(value)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_takes_the_place_of_the_first_line_of_that_name() {
        let mut fields = Fields::received(
            ["A", "b", "a"].map(|name| Field::new(name, "1")).into_iter().collect(),
        );
        assert_eq!(fields.set("a", b"2", HEAD), Ok(()));
        assert_eq!(fields.lines(), [Field::new("a", "2"), Field::new("b", "1")]);
        assert_eq!(fields.remove("B"), Ok(true));
        assert_eq!(fields.remove("B"), Ok(false));
    }

    #[test]
    fn the_number_of_fields_is_limited() {
        for (limits, most) in [(HEAD, 100), (TRAILERS, 32)] {
            let mut fields = Fields::default();
            for _ in 0..most {
                assert_eq!(fields.append("a", b"", limits), Ok(()));
            }
            assert_eq!(fields.append("a", b"", limits), Err(EditErrorKind::LimitExceeded));
            assert_eq!(fields.lines().len(), most);
        }
    }

    #[test]
    fn the_bytes_of_a_section_are_limited() {
        for (limits, most) in [(HEAD, 32 * 1024), (TRAILERS, 8 * 1024)] {
            let set = |bytes: usize| Fields::default().set("a", &vec![b'x'; bytes - 5], limits);
            assert_eq!(set(most - 1), Ok(()));
            assert_eq!(set(most), Ok(()));
            assert_eq!(set(most + 1), Err(EditErrorKind::LimitExceeded));
        }
    }
}
