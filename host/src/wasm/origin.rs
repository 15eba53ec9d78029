//! What a component says of how it was made: the mark of its SDK and the names of its tools.
//!
//! Both stand in custom sections, in the words of whoever made it: they are shown to people, and
//! nothing that matters to anybody else depends on them (`direct::PostReturn`). Knows no engine: the
//! bytes are only walked over.

use std::fmt;
use wasmparser::{KnownCustom, Parser, Payload, ProducersSectionReader};

/// Custom section in which an SDK of Pillion leaves its name and version.
pub const SDK_SECTION: &str = "pillion-sdk";
/// Tools that are kept; more are left out.
const TOOLS_MAX: usize = 16;
/// Characters of a name or a version that are kept.
const NAME_CHARS_MAX: usize = 64;

/// Where a component comes from, as far as it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The SDK and its version, as in `pillion-sdk 0.1.0 (Rust)`.
    pub sdk: Option<String>,
    /// Compilers and tools with their versions, each once, in the order in which they come.
    pub tools: Vec<String>,
}

impl Origin {
    /// Reads the custom sections of a component and of the modules in it. What cannot be read says
    /// nothing.
    pub fn of(component: &[u8]) -> Self {
        let mut origin = Origin::default();
        for payload in Parser::new(0).parse_all(component) {
            let Ok(payload) = payload else { break };
            let Payload::CustomSection(section) = payload else { continue };
            if section.name() == SDK_SECTION {
                let mark = String::from_utf8_lossy(section.data());
                origin.sdk.get_or_insert_with(|| shown(&mark));
            } else if let KnownCustom::Producers(producers) = section.as_known() {
                origin.add_tools(producers);
            }
        }
        origin
    }

    fn add_tools(&mut self, producers: ProducersSectionReader<'_>) {
        let fields = producers.into_iter().flatten();
        for tool in fields.flat_map(|field| field.values.into_iter().flatten()) {
            let tool = format!("{} {}", shown(tool.name), shown(tool.version));
            let tool = tool.trim_end().to_owned();
            if self.tools.len() < TOOLS_MAX && !self.tools.contains(&tool) {
                self.tools.push(tool);
            }
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<&str> = self.sdk.iter().chain(&self.tools).map(String::as_str).collect();
        match all.is_empty() {
            true => f.write_str("unknown tools"),
            false => f.write_str(&all.join(", ")),
        }
    }
}

/// Fit for a terminal: cut, and without control characters.
fn shown(text: &str) -> String {
    text.chars().take(NAME_CHARS_MAX).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A custom section of fewer than 128 bytes.
    fn custom(name: &str, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(1 + name.len() + content.len()).unwrap();
        let mut section = vec![0, length, u8::try_from(name.len()).unwrap()];
        section.extend_from_slice(name.as_bytes());
        section.extend_from_slice(content);
        section
    }

    fn component(sections: &[Vec<u8>]) -> Vec<u8> {
        [b"\0asm\x0d\0\x01\0".as_slice(), &sections.concat()].concat()
    }

    /// One field of the producers section: names with versions.
    fn producers(tools: &[(&str, &str)]) -> Vec<u8> {
        let mut content = vec![1, 12];
        content.extend_from_slice(b"processed-by");
        content.push(u8::try_from(tools.len()).unwrap());
        for text in tools.iter().flat_map(|(name, version)| [name, version]) {
            content.push(u8::try_from(text.len()).unwrap());
            content.extend_from_slice(text.as_bytes());
        }
        custom("producers", &content)
    }

    #[test]
    fn sdk_and_tools_are_read_each_once() {
        let tools = producers(&[("rustc", "1.95"), ("ld", ""), ("rustc", "1.95")]);
        let origin = Origin::of(&component(&[custom(SDK_SECTION, b"sdk 0.1.0"), tools]));
        assert_eq!(origin.sdk.as_deref(), Some("sdk 0.1.0"));
        assert_eq!(origin.tools, ["rustc 1.95", "ld"]);
        assert_eq!(origin.to_string(), "sdk 0.1.0, rustc 1.95, ld");
    }

    #[test]
    fn what_says_nothing_or_is_broken_has_unknown_tools() {
        for bytes in [component(&[]), component(&[vec![0, 200]]), b"nonsense".to_vec(), Vec::new()]
        {
            assert_eq!(Origin::of(&bytes).to_string(), "unknown tools");
        }
    }

    #[test]
    fn names_are_cut_and_made_harmless() {
        let of = |length: usize| {
            let name = "\u{1b}".to_owned() + &"x".repeat(length - 1);
            Origin::of(&component(&[producers(&[(&name, "")])])).tools.remove(0)
        };
        for (length, kept) in [(63, 63), (64, 64), (65, 64)] {
            assert_eq!(of(length), format!("\\u{{1b}}{}", "x".repeat(kept - 1)));
        }
    }

    #[test]
    fn tools_are_counted() {
        for (count, kept) in [(15, 15), (16, 16), (17, 16)] {
            let names: Vec<String> = (0..count).map(|number| number.to_string()).collect();
            let tools: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
            assert_eq!(Origin::of(&component(&[producers(&tools)])).tools.len(), kept);
        }
    }
}
