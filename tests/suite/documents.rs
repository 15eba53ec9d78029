//! The documents say what the code does: limits with their defaults, and examples that are files.

use pillion_tests::guests;
use serde_json::Value;
use std::path::Path;

#[test]
fn every_limit_is_documented_with_its_default() {
    let documented = read("host/LIMITS.md");
    let mut missing = Vec::new();
    let mut count = 0;
    walk(&pillion::config::schema(), "", &mut |path, default| {
        let bounded = [
            "listener.limits.",
            "listener.deadline.",
            "listener.overload.",
            "listener.pass.",
            "listener.route.mirror.",
            "runtime.overload.",
            "dns.limits.",
            "upstream.NAME.limits.",
            "upstream.NAME.slow_start",
            "upstream.NAME.outlier.",
            "upstream.NAME.retry.",
            "upstream.NAME.health.",
            "filter.NAME.limits.",
            "runtime.compile.",
            "rollout.judge.",
        ];
        if !bounded.iter().any(|table| path.starts_with(table)) {
            return;
        }
        // What is no limit is told elsewhere.
        if ["any_method", "check", "path"].iter().any(|key| path.ends_with(&format!(".{key}"))) {
            return;
        }
        count += 1;
        let row = documented.lines().find(|line| line.starts_with(&format!("| `{path}` |")));
        let told = row.and_then(|row| row.split('`').nth(3)).map(|told| told.replace(',', ""));
        // The schema writes whole minutes as such; the documents keep to seconds.
        let minutes = default.strip_suffix('m').and_then(|minutes| minutes.parse::<u32>().ok());
        let seconds = minutes.map(|minutes| format!("{}s", minutes * 60));
        if told.as_deref() != Some(default) && told != seconds {
            missing.push(format!("{path}: {default}, told {told:?}"));
        }
    });
    assert!(count > 40, "only {count} limits were found in the schema");
    assert!(missing.is_empty(), "host/LIMITS.md differs:\n{}", missing.join("\n"));
}

/// Calls `found` with the path and the default of every key that has one.
fn walk(schema: &Value, path: &str, found: &mut dyn FnMut(&str, &str)) {
    if let Some(default) = schema.get("default") {
        let text = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
        found(path, &text);
    }
    let join =
        |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        walk(inner, &join(name), found);
    }
    if let Some(items) = schema.get("items") {
        walk(items, path, found);
    }
    if let Some(entries) = schema.get("additionalProperties").filter(|entries| entries.is_object())
    {
        walk(entries, &join("NAME"), found);
    }
    for choice in ["oneOf", "anyOf"] {
        for inner in schema.get(choice).and_then(Value::as_array).into_iter().flatten() {
            walk(inner, path, found);
        }
    }
}

#[test]
fn every_example_file_in_the_documents_is_accepted() {
    for document in ["README.md", "host/CONFIGURATION.md", "host/ROLLOUTS.md"] {
        let text = read(document);
        let mut count = 0;
        for block in examples(&text, IsCase::No) {
            count += 1;
            let loaded = pillion::config::parse(block, "example.toml", Path::new("/"), &|_| {
                Some("1".into())
            });
            if let Err(problems) = loaded {
                panic!("{document}: {problems}");
            }
        }
        assert!(count > 0, "{document} has no example");
    }
}

#[test]
fn every_example_of_a_case_file_in_the_documents_is_read() {
    for document in ["README.md", "host/TESTING.md"] {
        let text = read(document);
        let kind = if document == "README.md" { IsCase::Yes } else { IsCase::No };
        let mut count = 0;
        for block in examples(&text, kind) {
            count += 1;
            if let Err(problems) =
                pillion::config::case::parse(block, "example.toml", Path::new("/"), &|_| None)
            {
                panic!("{document}: {problems}");
            }
        }
        assert!(count > 0, "{document} has no example");
    }
}

/// Does a mark before an example say that it is a case file?
#[derive(Clone, Copy, PartialEq, Eq)]
enum IsCase {
    Yes,
    No,
}

/// The examples in TOML of a document, those with the mark or those without.
fn examples(text: &str, kind: IsCase) -> impl Iterator<Item = &str> {
    let parts: Vec<&str> = text.split("```toml\n").collect();
    let pairs: Vec<(&str, &str)> = parts.windows(2).map(|pair| (pair[0], pair[1])).collect();
    pairs.into_iter().filter_map(move |(before, example)| {
        let marked = before.ends_with("<!-- a case file -->\n");
        (marked == (kind == IsCase::Yes)).then(|| example.split("```").next())?
    })
}

/// The tables of TESTING.md, their headings, and where the schema has them.
const CASE_TABLES: [(&str, &str); 9] = [
    ("### The file", "/properties"),
    ("### `case`", "/properties/case/items/properties"),
    ("### `step`", "/properties/case/items/properties/step/items/properties"),
    ("### `budget`", "/properties/budget/properties"),
    ("### `request`", "/properties/case/items/properties/request/properties"),
    ("### `upstream`", "/properties/upstream/properties"),
    ("### `expect`", "/properties/case/items/properties/expect/properties"),
    (
        "### `expect.forwarded`",
        "/properties/case/items/properties/expect/properties/forwarded/oneOf/1/properties",
    ),
    ("### `load_error`", "/properties/case/items/properties/load_error/properties"),
];

#[test]
fn every_key_of_case_files_is_documented_with_its_default() {
    let document = read("host/TESTING.md");
    let schema = pillion::config::case::schema();
    for (heading, pointer) in CASE_TABLES {
        let keys = schema.pointer(pointer).and_then(Value::as_object).expect(pointer);
        let section = document.split(&format!("\n{heading}\n")).nth(1).expect(heading);
        let section = section.split("\n## ").next().unwrap_or_default();
        let section = section.split("\n### ").next().unwrap_or_default();
        let row = |key: &str| {
            let start = format!("| `{key}` | ");
            section.lines().find_map(|line| line.strip_prefix(start.as_str()))
        };
        for (key, described) in keys {
            let told = row(key).unwrap_or_else(|| panic!("{heading} lacks `{key}`"));
            let default = described.get("default").filter(|it| !it.is_object());
            let told = told.split(" | ").next().unwrap_or_default();
            if let Some(default) = default {
                assert!(told.contains(&format!("`{default}`")), "{heading}: `{key}`: {default}");
            }
        }
        let rows = section.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, keys.len(), "{heading} has a row too many");
    }
}

#[test]
fn the_shipped_filters_are_those_the_configuration_knows() {
    let mut shipped: Vec<&str> =
        pillion_filters::SHIPPED.iter().map(|filter| filter.name).collect();
    let mut known = pillion::config::BUILTIN_FILTERS.to_vec();
    shipped.sort_unstable();
    known.sort_unstable();
    assert_eq!(shipped, known);
}

/// Every guest is there to be used: one that no test names is a test that was forgotten.
#[test]
fn every_guest_is_used_by_a_test() {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/suite");
    let (mut text, mut folders) = (String::new(), vec![suite]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the suite is there") {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                text.push_str(&std::fs::read_to_string(path).expect("a readable source file"));
            }
        }
    }
    let forgotten: Vec<&&str> =
        guests::NAMES.iter().filter(|name| !text.contains(&format!("\"{name}\""))).collect();
    assert!(forgotten.is_empty(), "no test uses {forgotten:?}");
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
