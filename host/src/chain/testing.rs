//! Filters of a few lines, for the tests of the chain and of what stands on it.

use super::exchange::{Exchange, Message};
use super::filter::{
    BodyDecision, FailPolicy, Failure, FailureKind, Filter, HeadDecision, Hook, Hooks,
    LocalResponse, Outcome,
};
use super::run::Chain;
use std::cell::RefCell;
use std::rc::Rc;

pub(crate) type HeadHook = Box<dyn Fn(&mut Exchange) -> Result<HeadDecision, Failure>>;
pub(crate) type BodyHook =
    Box<dyn Fn(&mut Exchange, &[u8], &[u8], bool) -> Result<BodyDecision, Failure>>;

/// A filter made of closures, which writes down what it was asked.
pub(crate) struct Scripted {
    pub(crate) name: &'static str,
    pub(crate) policy: FailPolicy,
    pub(crate) body_bytes_max: usize,
    pub(crate) on_request: Option<HeadHook>,
    pub(crate) on_request_body: Option<BodyHook>,
    pub(crate) on_response: Option<HeadHook>,
    pub(crate) on_response_body: Option<BodyHook>,
    pub(crate) trailers: bool,
    pub(crate) complete: bool,
    pub(crate) calls: Calls,
}

pub(crate) type Calls = Rc<RefCell<Vec<String>>>;

pub(crate) fn filter(name: &'static str, calls: &Calls) -> Scripted {
    Scripted {
        name,
        policy: FailPolicy::Closed,
        body_bytes_max: 10,
        on_request: None,
        on_request_body: None,
        on_response: None,
        on_response_body: None,
        trailers: false,
        complete: false,
        calls: calls.clone(),
    }
}

impl Scripted {
    pub(crate) fn head(mut self, decision: HeadDecision) -> Self {
        let (request, response) = (decision.clone(), decision);
        self.on_request = Some(Box::new(move |_| Ok(request.clone())));
        self.on_response = Some(Box::new(move |_| Ok(response.clone())));
        self
    }

    pub(crate) fn request(
        mut self,
        hook: impl Fn(&mut Exchange) -> Result<HeadDecision, Failure> + 'static,
    ) -> Self {
        self.on_request = Some(Box::new(hook));
        self
    }

    pub(crate) fn response(
        mut self,
        hook: impl Fn(&mut Exchange) -> Result<HeadDecision, Failure> + 'static,
    ) -> Self {
        self.on_response = Some(Box::new(hook));
        self
    }

    pub(crate) fn body(
        mut self,
        hook: impl Fn(&mut Exchange, &[u8], &[u8], bool) -> Result<BodyDecision, Failure>
        + Clone
        + 'static,
    ) -> Self {
        self.on_request_body = Some(Box::new(hook.clone()));
        self.on_response_body = Some(Box::new(hook));
        self
    }

    pub(crate) fn open(mut self) -> Self {
        self.policy = FailPolicy::Open;
        self
    }

    fn say(&self, what: &str) {
        self.calls.borrow_mut().push(format!("{} {what}", self.name));
    }
}

impl Filter for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    fn hooks(&self) -> Hooks {
        let on = |there: bool, hook, hooks: Hooks| if there { hooks.with(hook) } else { hooks };
        let hooks = on(self.on_request.is_some(), Hook::OnRequest, Hooks::default());
        let hooks = on(self.on_request_body.is_some(), Hook::OnRequestBody, hooks);
        let hooks = on(self.on_response.is_some(), Hook::OnResponse, hooks);
        let hooks = on(self.on_response_body.is_some(), Hook::OnResponseBody, hooks);
        let hooks = on(self.trailers, Hook::OnRequestTrailers, hooks);
        let hooks = on(self.trailers, Hook::OnResponseTrailers, hooks);
        on(self.complete, Hook::OnComplete, hooks)
    }

    fn fail_policy(&self) -> FailPolicy {
        self.policy
    }

    fn body_bytes_max(&self) -> usize {
        self.body_bytes_max
    }

    fn body_overflow(&self) -> Failure {
        self.say("overflow");
        Failure { kind: FailureKind::BodyLimit, message: "too much".into() }
    }

    fn on_request(&self, exchange: &mut Box<Exchange>) -> Result<HeadDecision, Failure> {
        self.say("request");
        self.on_request.as_ref().expect("only present hooks are called")(exchange)
    }

    fn on_request_body(
        &self,
        exchange: &mut Box<Exchange>,
        held: &[u8],
        chunk: &[u8],
        last: bool,
    ) -> Result<BodyDecision, Failure> {
        self.say(&format!("{:?} {} {last}", exchange.phase, String::from_utf8_lossy(chunk)));
        self.on_request_body.as_ref().expect("only present hooks are called")(
            exchange, held, chunk, last,
        )
    }

    fn on_request_trailers(&self, exchange: &mut Box<Exchange>) -> Result<(), Failure> {
        self.say("request trailers");
        exchange
            .append_field(Message::Trailers, b"x-seen", self.name.as_bytes())
            .map_err(|_| trap())
    }

    fn on_response(&self, exchange: &mut Box<Exchange>) -> Result<HeadDecision, Failure> {
        self.say("response");
        self.on_response.as_ref().expect("only present hooks are called")(exchange)
    }

    fn on_response_body(
        &self,
        exchange: &mut Box<Exchange>,
        held: &[u8],
        chunk: &[u8],
        last: bool,
    ) -> Result<BodyDecision, Failure> {
        self.say(&format!("{:?} {} {last}", exchange.phase, String::from_utf8_lossy(chunk)));
        self.on_response_body.as_ref().expect("only present hooks are called")(
            exchange, held, chunk, last,
        )
    }

    fn on_response_trailers(&self, exchange: &mut Box<Exchange>) -> Result<(), Failure> {
        self.say("response trailers");
        exchange
            .append_field(Message::Trailers, b"x-seen", self.name.as_bytes())
            .map_err(|_| trap())
    }

    fn on_complete(&self, _: &mut Box<Exchange>, _: &Outcome) -> Result<(), Failure> {
        self.say("complete");
        Ok(())
    }
}

pub(crate) fn trap() -> Failure {
    Failure { kind: FailureKind::Trap, message: "boom".into() }
}

pub(crate) fn refusal(status: u16) -> LocalResponse {
    LocalResponse { status, ..LocalResponse::default() }
}

pub(crate) fn chain(filters: Vec<Scripted>) -> Chain {
    Chain::new(filters.into_iter().map(|filter| Rc::new(filter) as Rc<dyn Filter>).collect())
}
