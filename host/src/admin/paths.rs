//! The paths of the admin interface as one table: what each is for, by which method, who may ask,
//! and what body comes along.
//!
//! Everything that speaks of paths reads this: the router, the list that a 404 shows, the checks of
//! `guard`, and the test that holds `openapi.json` to it. What is answered is the matter of `answer`.

use crate::rollout::control::UPLOAD_BYTES_MAX;

/// Bytes of a request body where none is needed.
pub const BODY_BYTES_MAX: usize = 1024;
/// Bytes of a body of JSON; as for a filter's `config` in a file.
pub const JSON_BYTES_MAX: usize = 256 << 10;

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Live,
    Ready,
    Metrics,
    Config,
    Status,
    OpenApi,
    Reload,
    Drain,
    /// Something about rollouts.
    Rollouts(Verb),
}

/// What a request about rollouts wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Show,
    Start,
    StartFilter,
    Promote,
    Back,
    Generations,
    Pinned,
    Unpin,
}

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Probes and scrapers, which have no token: nothing secret is shown, nothing is set in motion.
    Anyone,
    /// Whoever has the token, where there is one.
    Holder,
    /// The same; without a token only this host, since it brings code into the process.
    HolderOrHost,
}

/// What body comes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// None; one that comes is read and forgotten.
    Forgotten,
    /// JSON, or nothing.
    Json,
    /// A WebAssembly component.
    Component,
}

impl Body {
    /// Bytes at most.
    pub(super) fn bytes_max(self) -> usize {
        match self {
            Body::Forgotten => BODY_BYTES_MAX,
            Body::Json => JSON_BYTES_MAX,
            Body::Component => UPLOAD_BYTES_MAX,
        }
    }

    /// What `content-type` has to say of one that is there.
    pub(super) fn media_type(self) -> Option<&'static str> {
        match self {
            Body::Forgotten => None,
            Body::Json => Some("application/json"),
            Body::Component => Some("application/wasm"),
        }
    }
}

/// One path with one method.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) method: &'static str,
    /// A segment in braces stands for any one that is not empty.
    pub(super) pattern: &'static str,
    pub(super) action: Action,
    pub(super) who: Who,
    pub(super) body: Body,
    says: &'static str,
}

impl Path {
    /// Are its errors JSON, whatever the client accepts?
    pub(super) fn speaks_json(&self) -> bool {
        !matches!(
            self.action,
            Action::Live | Action::Ready | Action::Metrics | Action::Reload | Action::Drain
        )
    }

    /// The segment that the pattern leaves open, decoded. An outer none: another path.
    fn matches(&self, path: &str) -> Option<Option<String>> {
        let (mut wanted, mut given) = (self.pattern.split('/'), path.split('/'));
        let mut name = None;
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return Some(name),
                (Some(open), Some(segment)) if open.starts_with('{') => {
                    name = Some(decoded(segment).filter(|name| !name.is_empty())?);
                }
                (Some(wanted), Some(given)) if wanted == given => {}
                _ => return None,
            }
        }
    }
}

const fn get(pattern: &'static str, action: Action, who: Who, says: &'static str) -> Path {
    Path { method: "GET", pattern, action, who, body: Body::Forgotten, says }
}

const fn post(
    pattern: &'static str,
    action: Action,
    who: Who,
    body: Body,
    says: &'static str,
) -> Path {
    Path { method: "POST", pattern, action, who, body, says }
}

/// All of them, in the order in which they are shown.
pub(super) const PATHS: [Path; 16] = [
    get("/livez", Action::Live, Who::Anyone, "200 while the process runs"),
    get(
        "/readyz",
        Action::Ready,
        Who::Anyone,
        "200 when traffic may be sent here, else 503 and why",
    ),
    get("/metrics", Action::Metrics, Who::Anyone, "OpenMetrics text"),
    get("/config", Action::Config, Who::Holder, "the running configuration, without secrets"),
    get(
        "/status",
        Action::Status,
        Who::Holder,
        "generation, workers, listeners, filters, upstreams, last reload",
    ),
    get("/openapi.json", Action::OpenApi, Who::Holder, "these paths as an OpenAPI document"),
    post(
        "/reload",
        Action::Reload,
        Who::Holder,
        Body::Forgotten,
        "read the configuration again; 200, or 422 and why",
    ),
    post(
        "/drain",
        Action::Drain,
        Who::Holder,
        Body::Forgotten,
        "finish what is in flight, then end",
    ),
    get(
        "/rollout",
        Action::Rollouts(Verb::Show),
        Who::Holder,
        "what is in force, and the rollout in progress or the last one",
    ),
    post(
        "/rollout",
        Action::Rollouts(Verb::Start),
        Who::HolderOrHost,
        Body::Json,
        "try other configurations of filters, or other chains",
    ),
    post(
        "/filters/{name}/next",
        Action::Rollouts(Verb::StartFilter),
        Who::HolderOrHost,
        Body::Component,
        "try the component in the body as the next version of a filter",
    ),
    post(
        "/rollout/promote",
        Action::Rollouts(Verb::Promote),
        Who::HolderOrHost,
        Body::Json,
        "go to the next step now",
    ),
    post(
        "/rollback",
        Action::Rollouts(Verb::Back),
        Who::HolderOrHost,
        Body::Json,
        "end the rollout, or return to an earlier generation",
    ),
    get(
        "/generations",
        Action::Rollouts(Verb::Generations),
        Who::Holder,
        "the full generations that are kept",
    ),
    get("/pinned", Action::Rollouts(Verb::Pinned), Who::Holder, "versions that were found bad"),
    Path {
        method: "DELETE",
        pattern: "/pinned/{id}",
        action: Action::Rollouts(Verb::Unpin),
        who: Who::HolderOrHost,
        body: Body::Forgotten,
        says: "let such a version be tried again",
    },
];

/// What there is at a path.
#[derive(Debug)]
pub(super) enum Found {
    /// This, and the segment that its pattern leaves open.
    Path(&'static Path, Option<String>),
    /// The path takes these methods only.
    OtherMethods(&'static Path, String),
    /// Nothing.
    Nothing,
}

/// What a request of `method` for `path` asks for. `HEAD` asks for what `GET` does.
pub(super) fn find(method: &str, path: &str) -> Found {
    let asked = if method == "HEAD" { "GET" } else { method };
    let mut allowed = Vec::new();
    let mut other = None;
    for candidate in &PATHS {
        let Some(name) = candidate.matches(path) else { continue };
        if candidate.method == asked {
            return Found::Path(candidate, name);
        }
        allowed.push(candidate.method);
        if candidate.method == "GET" {
            allowed.push("HEAD");
        }
        other = Some(candidate);
    }
    match other {
        Some(other) => Found::OtherMethods(other, allowed.join(", ")),
        None => Found::Nothing,
    }
}

/// All paths as text, one on each line.
pub(super) fn listed() -> String {
    let line = |it: &Path| format!("{:<6} {:<21} {}\n", it.method, it.pattern, it.says);
    PATHS.iter().map(line).collect()
}

/// Text of a path or a query without its percent-encoding; none if it is malformed.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || (rest.next()? as char).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &str, path: &str) -> Option<(Action, Option<String>)> {
        match find(method, path) {
            Found::Path(path, name) => Some((path.action, name)),
            Found::OtherMethods(..) | Found::Nothing => None,
        }
    }

    #[test]
    fn a_path_is_found_by_method_and_pattern() {
        for path in &PATHS {
            let at = path.pattern.replace("{name}", "limit").replace("{id}", "limit");
            let name = path.pattern.contains('{').then(|| "limit".to_owned());
            assert_eq!(found(path.method, &at), Some((path.action, name)), "{at}");
            assert!(listed().contains(path.pattern));
        }
        assert_eq!(found("HEAD", "/livez"), Some((Action::Live, None)));
        let name = Some("a b/é".to_owned());
        assert_eq!(
            found("POST", "/filters/a%20b%2f%c3%A9/next"),
            Some((Action::Rollouts(Verb::StartFilter), name))
        );
    }

    #[test]
    fn nothing_else_is_found() {
        for path in [
            "/",
            "",
            "*",
            "/livez/",
            "//livez",
            "/metricsx",
            "/filters//next",
            "/filters/a/b/next",
            "/filters/a",
            "/pinned/",
            "/filters/%/next",
            "/filters/%4/next",
            "/filters/%zz/next",
            "/filters/%ff/next",
            "/filters/%+4/next",
            "/{name}",
        ] {
            assert!(matches!(find("GET", path), Found::Nothing), "{path}");
        }
    }

    #[test]
    fn another_method_is_told_those_there_are() {
        for (method, path, allow) in [
            ("GET", "/drain", "POST"),
            ("DELETE", "/livez", "GET, HEAD"),
            ("PUT", "/rollout", "GET, HEAD, POST"),
            ("GET", "/pinned/x", "DELETE"),
        ] {
            let Found::OtherMethods(_, allowed) = find(method, path) else { panic!("{path}") };
            assert_eq!(allowed, allow);
        }
    }

    #[test]
    fn what_sets_rollouts_in_motion_is_for_holders_or_this_host() {
        for path in &PATHS {
            let open = matches!(path.action, Action::Live | Action::Ready | Action::Metrics);
            assert_eq!(path.who == Who::Anyone, open, "{}", path.pattern);
            let moves = path.method != "GET" && path.speaks_json();
            assert_eq!(path.who == Who::HolderOrHost, moves, "{}", path.pattern);
        }
    }
}
