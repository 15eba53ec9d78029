//! Where messages about a filter point: into the file it was read from, into the tables of the file
//! that say what is tried next, or nowhere, when it came by the admin interface.

use crate::config::{Diagnostic, Loaded, Severity};

/// Where a configuration came from.
#[derive(Clone, Copy)]
pub(super) enum Place<'l> {
    /// A file.
    File(&'l Loaded),
    /// What a file has as `next`.
    Next(&'l Loaded),
    /// A request to the admin interface, or what was kept of one.
    Request,
}

impl Place<'_> {
    /// A message about a key of a filter's table.
    pub(super) fn filter(self, name: &str, key: &str, message: String) -> Diagnostic {
        match self {
            Place::File(loaded) => loaded.locate(&format!("filter.{name}.{key}"), message),
            Place::Next(loaded) => loaded.locate(&format!("filter.{name}.next.{key}"), message),
            Place::Request => about(name, message),
        }
    }

    /// A complaint of a filter's `configure` about a key of its own.
    pub(super) fn config(self, name: &str, key: &str, message: &str) -> Diagnostic {
        match self {
            Place::File(loaded) => loaded.locate_filter_config(name, key, message),
            Place::Next(_) | Place::Request => {
                let place = if key.is_empty() { String::new() } else { format!("`{key}`: ") };
                let message =
                    format!("filter `{name}` refuses its configuration: {place}{message}");
                self.filter(name, "config", message)
            }
        }
    }
}

fn about(name: &str, message: String) -> Diagnostic {
    let file = format!("filter {name}").into();
    Diagnostic { severity: Severity::Error, file, place: None, message, help: None }
}
