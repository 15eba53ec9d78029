//! The sidecar under test, its origins, and its configuration file: which version of the filter runs,
//! and which is next.

use crate::ledger::Ledger;
use crate::streams;
use pillion_tests::{Origin, Sidecar, guests};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;

/// What a version does to the requests that it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Good,
    Trap,
    Spin,
    Leak,
    Reply,
    Slow,
}

impl Mood {
    /// As the guest knows it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mood::Good => "good",
            Mood::Trap => "trap",
            Mood::Spin => "spin",
            Mood::Leak => "leak",
            Mood::Reply => "repl",
            Mood::Slow => "slow",
        }
    }
}

/// A version of the chain: the filter's component and configuration, and whether there is a second
/// filter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Version {
    pub(crate) component: (Mood, u32),
    pub(crate) config: (Mood, u32),
    pub(crate) second: bool,
}

impl Version {
    /// The first one.
    pub(crate) const FIRST: Version =
        Version { component: (Mood::Good, 0), config: (Mood::Good, 0), second: false };

    /// What a good one puts into `x-version`.
    pub(crate) fn shown(&self) -> String {
        format!("{:06}/v{}/good", self.component.1, self.config.1)
    }

    /// Its filter's configuration.
    pub(crate) fn config(&self) -> Value {
        let (mood, number) = self.config;
        match mood {
            Mood::Good => json!({ "version": format!("v{number}") }),
            bad => json!({ "version": format!("v{number}"), "mood": bad.name() }),
        }
    }

    /// Its chain.
    pub(crate) fn chain(&self) -> &'static [&'static str] {
        if self.second { &["version", "second"] } else { &["version"] }
    }

    fn file(&self) -> String {
        let (mood, number) = self.component;
        format!("component-{}-{number}.wasm", mood.name())
    }

    /// Its filter's component.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        guests::marked(self.component.0.name(), self.component.1)
    }

    /// The keys of its filter.
    fn keys(&self) -> String {
        let (mood, number) = self.config;
        let mood = match mood {
            Mood::Good => String::new(),
            bad => format!(", mood = \"{}\"", bad.name()),
        };
        format!(
            "source = \"./{}\"\nversion = \"c{}-v{number}\"\n\
             config = {{ version = \"v{number}\"{mood} }}",
            self.file(),
            self.component.1
        )
    }
}

/// Everything that runs.
pub(crate) struct Site {
    pub(crate) sidecar: Sidecar,
    origins: [Origin; 3],
}

impl Site {
    /// Starts it with [`Version::FIRST`].
    pub(crate) async fn start(ledger: &Arc<Ledger>) -> Site {
        let origins = [
            Origin::echo().await,
            streams::origin(Arc::clone(ledger)).await,
            streams::tunnels().await,
        ];
        let first = Version::FIRST;
        let setup = Sidecar::with(&text(origins.each_ref(), &first, None));
        let sidecar = setup.file(&first.file(), first.bytes()).start().await;
        Site { sidecar, origins }
    }

    /// Saves the file: `running` at once, and `next` in these steps. Components that it does not name
    /// are removed.
    pub(crate) fn save(&self, running: &Version, next: Option<(&Version, &[&str])>) {
        let named: Vec<&Version> = [running].into_iter().chain(next.map(|next| next.0)).collect();
        let directory = self.sidecar.directory();
        for version in &named {
            if !directory.join(version.file()).exists() {
                self.sidecar.write(&version.file(), version.bytes());
            }
        }
        self.sidecar.save(&text(self.origins.each_ref(), running, next));
        for entry in std::fs::read_dir(directory).expect("it is there").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_named = named.iter().any(|version| version.file() == name);
            if name.starts_with("component-") && !is_named {
                std::fs::remove_file(entry.path()).expect("it can be removed");
            }
        }
    }

    /// Nothing of earlier versions is left: each worker has one instance of the filter.
    pub(crate) async fn is_left_clean(&self) {
        let labels = ["filter=\"version\""];
        self.sidecar.metric_is("pillion_filter_instances", &labels, |count| count == 2.0).await;
    }
}

fn text(origins: [&Origin; 3], running: &Version, next: Option<(&Version, &[&str])>) -> String {
    let [app, streams, tunnels]: [SocketAddr; 3] = origins.map(|origin| origin.address);
    let (mut steps, mut next_chain, mut next_filter) = Default::default();
    if let Some((version, in_steps)) = next {
        steps = format!("steps = {in_steps:?}");
        next_filter = format!("[filter.version.next]\n{}", version.keys());
        if version.second != running.second {
            next_chain = format!("next = {{ chain = {:?} }}", version.chain());
        }
    }
    let (keys, chain) = (running.keys(), running.chain());
    format!(
        r#"
[admin]
address = "127.0.0.1:0"

[runtime]
workers = 2
cache_dir = "./cache"

[rollout]
sticky = "random"
judge = {{ samples_min = 20 }}
{steps}

[[listener]]
name = "inbound"
address = "127.0.0.1:0"
limits = {{ requests_per_connection = 1000000000, connection_lifetime = "168h" }}

[[listener.route]]
match = {{ path_prefix = "/streams" }}
chain = ["version"]
upstream = "streams"

[[listener.route]]
match = {{ path = "/tunnel" }}
chain = ["version"]
upstream = "tunnels"

[[listener.route]]
name = "all"
chain = {chain:?}
{next_chain}
upstream = "app"

[upstream]
app = {{ endpoints = ["{app}"] }}
streams = {{ endpoints = ["{streams}"] }}
tunnels = {{ endpoints = ["{tunnels}"] }}

[filter.second]
source = "builtin:headers"
config = {{ response = [{{ set = {{ name = "x-second", value = "1" }} }}] }}

[filter.version]
{keys}
{next_filter}
"#
    )
}
