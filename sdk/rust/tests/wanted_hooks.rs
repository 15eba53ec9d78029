//! The fake host calls the hooks that a filter wants, and no others.

use pillion_sdk::{
    prelude::*,
    testing::{Host, Request as Sent, Response as Answer, json},
};

/// Logs the name of every hook that is called.
struct Logging {
    wanted: Hooks,
}

const NAMES: [(&str, Hooks); 7] = [
    ("on-request", Hooks::ON_REQUEST),
    ("on-request-body", Hooks::ON_REQUEST_BODY),
    ("on-request-trailers", Hooks::ON_REQUEST_TRAILERS),
    ("on-response", Hooks::ON_RESPONSE),
    ("on-response-body", Hooks::ON_RESPONSE_BODY),
    ("on-response-trailers", Hooks::ON_RESPONSE_TRAILERS),
    ("on-complete", Hooks::ON_COMPLETE),
];

#[filter]
impl Filter for Logging {
    type Config = Vec<String>;

    fn new(wanted: Vec<String>) -> Result<Self, ConfigError> {
        let named = NAMES.iter().filter(|(name, _)| wanted.iter().any(|one| one == name));
        Ok(Self { wanted: named.fold(Hooks::NONE, |hooks, (_, hook)| hooks.with(*hook)) })
    }

    fn wants(&self) -> Hooks {
        self.wanted
    }

    fn on_request(&mut self, _: &mut Request) -> Result<Decision> {
        log::info!("on-request");
        Ok(Decision::Proceed)
    }

    fn on_request_body(&mut self, _: &mut Request, _: Chunk<'_>) -> Result<BodyDecision> {
        log::info!("on-request-body");
        Ok(BodyDecision::Pass)
    }

    fn on_request_trailers(&mut self, _: &Request, _: &mut Trailers) -> Result<()> {
        log::info!("on-request-trailers");
        Ok(())
    }

    fn on_response(&mut self, _: &Request, _: &mut Response) -> Result<Decision> {
        log::info!("on-response");
        Ok(Decision::Proceed)
    }

    fn on_response_body(
        &mut self,
        _: &Request,
        _: &mut Response,
        _: Chunk<'_>,
    ) -> Result<BodyDecision> {
        log::info!("on-response-body");
        Ok(BodyDecision::Pass)
    }

    fn on_response_trailers(&mut self, _: &Request, _: &Response, _: &mut Trailers) -> Result<()> {
        log::info!("on-response-trailers");
        Ok(())
    }

    fn on_complete(&mut self, _: &Request, _: &Outcome) -> Result<()> {
        log::info!("on-complete");
        Ok(())
    }
}

/// The hooks that an exchange with bodies and trailers calls.
fn called(wanted: &[&str]) -> Vec<String> {
    let host = Host::new();
    let filter = host.load::<Logging>(json!(wanted)).expect("the names are hooks");
    let request = Sent::post("/").chunks(["up"]).trailer("x-sum", "1");
    let exchange = filter.request(request);
    let forwarded = exchange.forwarded();
    assert_eq!((&forwarded.body[..], forwarded.trailers.len()), (&b"up"[..], 1));
    let mut answered = exchange.answer(Answer::new(200).body("down").trailer("x-sum", "2"));
    let response = answered.response();
    assert_eq!((&response.body[..], response.trailers.len()), (&b"down"[..], 1));
    answered.complete().expect("the hook does not fail");
    host.logs().into_iter().map(|line| line.text).collect()
}

#[test]
fn what_is_wanted_is_called_and_what_is_not_changes_nothing() {
    let all = NAMES.map(|(name, _)| name);
    assert_eq!(called(&all), all);
    assert_eq!(called(&[]), [""; 0]);
    for name in all {
        assert_eq!(called(&[name]), [name]);
        let others: Vec<&str> = all.into_iter().filter(|other| *other != name).collect();
        assert_eq!(called(&others), others);
    }
}
