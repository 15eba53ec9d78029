//! `pillion filter new`: a project that builds and passes its tests as it is.

use super::super::say;
use super::files::{self, File};
use super::sdk::{self, Source};
use std::path::Path;
use std::process::ExitCode;

/// Bytes of a project's name.
const NAME_BYTES_MAX: usize = 64;
/// Where Pillion's sources are; empty where nobody has said.
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The name of the project and of its folder
    #[arg(value_name = "NAME", value_parser = valid_name)]
    name: String,
    /// The language to write the filter in
    #[arg(long, value_enum, default_value = "rust")]
    lang: Language,
    /// Where the SDK is, instead of in the project: a folder, the URL of a Git repository, a version
    #[arg(long, value_name = "PATH|URL|VERSION")]
    sdk: Option<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Language {
    Rust,
}

pub(super) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { name, lang, sdk } = arguments;
    let source = sdk.as_deref().map_or(Source::Vendored, Source::parse);
    let project = match lang {
        Language::Rust => rust(name, &source)?,
    };
    files::create(Path::new(name), &project)?;
    say(&told(name))?;
    Ok(ExitCode::SUCCESS)
}

fn told(name: &str) -> String {
    let first = format!(
        "created `{name}`, a filter in Rust. Next:\n\n  \
         cd {name}\n  \
         cargo test              # the filter as plain Rust\n  \
         pillion filter build    # the component\n  \
         pillion test            # the component in the real runtime\n  \
         pillion dev             # all of it on every save, in a running sidecar"
    );
    match REPOSITORY {
        "" => format!(
            "{first}\n\nBefore the first push, name the Git repository of Pillion in \
             `.github/workflows/ci.yml` (`PILLION_GIT`)."
        ),
        _ => first,
    }
}

/// The files of a project in Rust.
fn rust(name: &str, source: &Source) -> anyhow::Result<Vec<File>> {
    let dependency = source.dependency()?;
    let vendored = match source {
        Source::Vendored => {
            "| `vendor/pillion` | the SDK as it was when the project was made; `pillion filter vendor` \
             brings that of another Pillion |\n"
        }
        _ => "",
    };
    let (default, link) = match REPOSITORY {
        "" => (String::new(), "Pillion".to_owned()),
        url => (format!(" || '{url}'"), format!("[Pillion]({url})")),
    };
    let words = [
        ("@name@", name),
        ("@crate@", &name.replace('-', "_")),
        ("@sdk@", &dependency),
        ("@vendored@", vendored),
        ("@edition@", "2024"),
        ("@rust@", env!("CARGO_PKG_RUST_VERSION")),
        ("@version@", env!("CARGO_PKG_VERSION")),
        ("@repository@", &default),
        ("@pillion@", &link),
    ];
    let filled = |template: &str| {
        words.iter().fold(template.to_owned(), |text, (word, by)| text.replace(word, by))
    };
    let files = [
        ("Cargo.toml", include_str!("templates/rust/Cargo.toml.template")),
        ("src/lib.rs", include_str!("templates/rust/lib.rs")),
        ("tests/native.rs", include_str!("templates/rust/native.rs")),
        ("cases/hello.toml", include_str!("templates/rust/cases.toml")),
        ("README.md", include_str!("templates/rust/README.md")),
        (".gitignore", include_str!("templates/rust/gitignore")),
        (".github/workflows/ci.yml", include_str!("templates/rust/ci.yml")),
    ];
    let mut project: Vec<File> = files
        .into_iter()
        .map(|(path, template)| File { path: path.to_owned(), text: filled(template) })
        .collect();
    if *source == Source::Vendored {
        project.extend(sdk::vendored()?);
    }
    Ok(project)
}

/// Names that cargo or the compiler keeps for itself, or that the project needs for something else.
const RESERVED: [&str; 59] = [
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "pillion_sdk",
    "pillion_sdk_macros",
    "priv",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "union",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

fn valid_name(name: &str) -> Result<String, String> {
    let allowed = |letter: char| {
        letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '-' | '_')
    };
    let wrong = if name.is_empty() {
        "a project needs a name".to_owned()
    } else if name.len() > NAME_BYTES_MAX {
        format!("it has {} bytes, and {NAME_BYTES_MAX} is the most", name.len())
    } else if let Some(other) = name.chars().find(|letter| !allowed(*letter)) {
        format!(
            "it has {other:?}; a name is made of letters in lower case, digits, `-` and `_`, as in \
             `rate-guard`"
        )
    } else if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        "it has to begin with a letter".to_owned()
    } else if RESERVED.contains(&name.replace('-', "_").as_str()) {
        format!("`{name}` means something to Rust or cargo; choose another, as `{name}-filter`")
    } else {
        return Ok(name.to_owned());
    };
    Err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_cargo_takes() {
        for name in ["a", "hello", "rate-guard", "x_1", "test-filter", "selfish"] {
            assert_eq!(valid_name(name).as_deref(), Ok(name));
        }
        for (name, wrong) in [
            ("", "a project needs a name"),
            ("Hello", "it has 'H'; a name is made of letters in lower case"),
            ("a b", "it has ' '; a name is made of"),
            ("../x", "it has '.'; a name is made of"),
            ("größe", "it has 'ö'"),
            ("1st", "it has to begin with a letter"),
            ("-x", "it has to begin with a letter"),
            ("_", "it has to begin with a letter"),
            (
                "match",
                "`match` means something to Rust or cargo; choose another, as `match-filter`",
            ),
            ("test", "`test` means something"),
            ("pillion-sdk", "`pillion-sdk` means something"),
        ] {
            let refused = valid_name(name).unwrap_err();
            assert!(refused.starts_with(wrong), "{name}: {refused}");
        }
    }

    #[test]
    fn a_name_has_a_most_of_bytes() {
        assert!(valid_name(&"x".repeat(NAME_BYTES_MAX - 1)).is_ok());
        assert!(valid_name(&"x".repeat(NAME_BYTES_MAX)).is_ok());
        let refused = valid_name(&"x".repeat(NAME_BYTES_MAX + 1)).unwrap_err();
        assert_eq!(refused, "it has 65 bytes, and 64 is the most");
    }

    #[test]
    fn the_filter_has_at_most_ten_lines() {
        let project = rust("hello", &Source::Vendored).unwrap();
        let filter = project.iter().find(|file| file.path == "src/lib.rs").unwrap();
        assert!(filter.text.lines().filter(|line| !line.is_empty()).count() <= 10);
    }

    #[test]
    fn no_word_is_left_in_a_project() {
        for source in [Source::Vendored, Source::Version("0.1".to_owned())] {
            let project = rust("rate-guard", &source).unwrap();
            for file in project.iter().filter(|file| !file.path.starts_with(sdk::VENDORED)) {
                let words: Vec<&str> = file.text.split('@').collect();
                let left = words.iter().skip(1).step_by(2).find(|word| {
                    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase())
                });
                assert_eq!(left, None, "{}", file.path);
            }
            let has = |path: &str| project.iter().any(|file| file.path.starts_with(path));
            assert_eq!(has("vendor/"), source == Source::Vendored);
        }
    }

    #[test]
    fn commands_of_the_workflow_are_read_as_they_are_written() {
        let project = rust("hello", &Source::Vendored).unwrap();
        let workflow = project.iter().find(|file| file.path.ends_with("ci.yml")).unwrap();
        let commands = workflow.text.lines().filter_map(|line| line.split_once(" run: "));
        let mut count = 0;
        for (_, command) in commands {
            count += 1;
            // In YAML these would begin a mapping or a comment.
            assert!(!command.contains(": ") && !command.contains(" #"), "{command}");
        }
        assert_eq!(count, 4);
    }
}
