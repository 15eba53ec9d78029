//! What is asked for on the command line.

use std::path::PathBuf;
use std::time::Duration;

/// How it is called.
pub(crate) const USAGE: &str = "\
usage: bench [SECTION...] [--quick] [--rounds N] [--envoy PATH] [--proxy-wasm]

sections: cpu memory start swap latency bodies workers curves balance (all where none is named)
--quick         fewer and shorter rounds: to see whether everything works, not for figures
--rounds N      interleaved rounds of every measurement, 1 to 100 (5; 2 with --quick)
--envoy PATH    the binary of Envoy; else $PILLION_BENCH_ENVOY, else `envoy` on the search path
--proxy-wasm    build the proxy-wasm filters for Envoy first (needs the target wasm32-wasip1)";

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Cpu,
    Memory,
    Start,
    Swap,
    Latency,
    Bodies,
    Workers,
    Curves,
    Balance,
}

const SECTIONS: [(&str, Section); 9] = [
    ("cpu", Section::Cpu),
    ("memory", Section::Memory),
    ("start", Section::Start),
    ("swap", Section::Swap),
    ("latency", Section::Latency),
    ("bodies", Section::Bodies),
    ("workers", Section::Workers),
    ("curves", Section::Curves),
    ("balance", Section::Balance),
];

/// What is measured, and how much of it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) sections: Vec<Section>,
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    pub(crate) envoy: Option<PathBuf>,
    pub(crate) build_proxy_wasm: bool,
}

impl Plan {
    /// From the arguments of the program; `Err` says what is wrong with them.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Plan, String> {
        let mut plan = Plan {
            sections: Vec::new(),
            quick: false,
            rounds: 0,
            envoy: std::env::var_os("PILLION_BENCH_ENVOY").map(PathBuf::from),
            build_proxy_wasm: false,
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("`{argument}` needs a value"));
            match argument.as_str() {
                "--quick" => plan.quick = true,
                "--proxy-wasm" => plan.build_proxy_wasm = true,
                "--envoy" => plan.envoy = Some(PathBuf::from(value()?)),
                "--rounds" => {
                    let text = value()?;
                    let rounds = text.parse().ok().filter(|rounds| (1..=100).contains(rounds));
                    plan.rounds = rounds.ok_or(format!("`{text}` is not from 1 to 100"))?;
                }
                name => {
                    let section = SECTIONS.iter().find(|(known, _)| *known == name);
                    plan.sections.push(section.ok_or(format!("there is no section `{name}`"))?.1);
                }
            }
        }
        if plan.rounds == 0 {
            plan.rounds = if plan.quick { 2 } else { 5 };
        }
        if plan.sections.is_empty() {
            plan.sections = SECTIONS.map(|(_, section)| section).to_vec();
        }
        Ok(plan)
    }

    /// How long one proxy is loaded in one round.
    pub(crate) fn load(&self) -> Duration {
        Duration::from_secs(if self.quick { 1 } else { 3 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Plan, String> {
        Plan::parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn nothing_named_means_everything_at_full_length() {
        let plan = parse("").unwrap();
        assert_eq!((plan.sections.len(), plan.rounds, plan.quick), (SECTIONS.len(), 5, false));
    }

    #[test]
    fn sections_rounds_and_peers_are_taken_as_named() {
        let plan = parse("memory cpu --quick --rounds 7 --envoy /opt/envoy").unwrap();
        assert_eq!(plan.sections, [Section::Memory, Section::Cpu]);
        assert_eq!((plan.rounds, plan.quick), (7, true));
        assert_eq!(plan.envoy, Some(PathBuf::from("/opt/envoy")));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, why) in [
            ("--rounds 0", "`0` is not from 1 to 100"),
            ("--rounds 101", "`101` is not from 1 to 100"),
            ("--rounds", "`--rounds` needs a value"),
            ("cup", "there is no section `cup`"),
        ] {
            assert_eq!(parse(text).unwrap_err(), why);
        }
        assert_eq!(parse("--rounds 1").unwrap().rounds, 1);
        assert_eq!(parse("--rounds 100").unwrap().rounds, 100);
    }

    #[test]
    fn usage_names_every_section() {
        assert!(SECTIONS.iter().all(|(name, _)| USAGE.contains(name)));
    }
}
