//! Reads where a route leads: to one upstream, or to several by weight.
//!
//! Which upstream a request gets, `proxy::split` knows.

use super::check::References;
use super::keys::SPLIT_WEIGHT;
use super::model::{Destination, Leg, Split};
use super::reader::TableReader;
use super::rollout::read_sticky;

/// None: it is not usable, which is reported.
pub(super) fn read(table: &TableReader<'_, '_>, upstreams: &mut References) -> Option<Destination> {
    if table.has("split") {
        return read_split(table, upstreams).map(Destination::Split);
    }
    if table.has("sticky") {
        let help = "add `split`, or remove it: with one upstream there is nothing to choose";
        table.context.error(table.span_of("sticky"), "`sticky` belongs to a `split`", help);
    }
    if !table.has("upstream") {
        let message = format!("missing key `upstream` in `{}`", table.path());
        let help = "write the upstream that answers, or `split` for several by weight";
        table.context.absence(table.span.clone(), message, help.to_owned());
    }
    let name = table.name("upstream")?;
    upstreams.resolve(table.context, &name).map(Destination::Upstream)
}

fn read_split(table: &TableReader<'_, '_>, upstreams: &mut References) -> Option<Split> {
    if table.has("upstream") {
        let message = "`upstream` and `split` exclude each other";
        table.context.error(table.span_of("split"), message, "write one of them");
        // It is not unused.
        let _ = table.name("upstream").and_then(|name| upstreams.resolve(table.context, &name));
    }
    let tables = table.tables("split");
    let mut legs: Vec<Leg> = Vec::new();
    for leg in &tables {
        let weight = leg.limit("weight").and_then(|weight| u32::try_from(weight).ok());
        let Some(name) = leg.name("upstream") else { continue };
        let Some(upstream) = upstreams.resolve(table.context, &name) else { continue };
        if legs.iter().any(|leg| leg.upstream == upstream) {
            let message = format!("upstream `{}` is in the split twice", name.value);
            table.context.error(name.span, message, "write it once, with the sum of its weights");
            continue;
        }
        legs.extend(weight.map(|weight| Leg { upstream, weight }));
    }
    let sticky = read_sticky(table);
    if tables.is_empty() || legs.len() < tables.len() {
        return None;
    }
    if legs.iter().all(|leg| leg.weight == 0) {
        let help = format!("one weight at least has to be from 1 to {}", SPLIT_WEIGHT.max);
        table.context.error(table.span_of("split"), "all weights of the split are 0", help);
        return None;
    }
    Some(Split { legs, sticky })
}
