//! How what guards upstreams is exposed: the counters of `guard_stats`, and what the state of an
//! upstream says at the moment of the scrape.

use super::exposition::{Output, counter, gauge};
use super::families;
use super::guard_stats::{
    EjectionCause, EndpointUse, Guard, HedgeResult, RetryCause, RetryRefusal, ShowGuards,
};
use super::metrics::Live;
use std::fmt::Error;
use std::sync::Arc;

/// The families of guards.
pub(super) fn encode(out: &mut Output, live: &Live) -> Result<(), Error> {
    let states: Vec<(&str, Arc<dyn ShowGuards>)> = live
        .upstreams
        .iter()
        .filter_map(|upstream| Some((upstream.name(), upstream.guards.shown()?)))
        .collect();
    endpoints(out, &states)?;
    ejections(out, live)?;
    breakers(out, live, &states)?;
    retries(out, live, &states)
}

fn endpoints(out: &mut Output, states: &[(&str, Arc<dyn ShowGuards>)]) -> Result<(), Error> {
    let all: Vec<_> = states.iter().map(|(name, state)| (*name, state.endpoints())).collect();
    let mut family = out.family(&families::UPSTREAM_ENDPOINTS)?;
    for (name, endpoints) in &all {
        for state in EndpointUse::ALL {
            let count = endpoints.iter().filter(|endpoint| endpoint.state == state).count();
            let labels = [("upstream", *name), ("state", state.name())];
            gauge(&mut family, &labels, count as u64)?;
        }
    }
    let mut family = out.family(&families::UPSTREAM_ENDPOINT_AVAILABLE)?;
    for (name, endpoints) in &all {
        for endpoint in endpoints {
            let address = endpoint.address.to_string();
            let labels = [("upstream", *name), ("endpoint", &*address)];
            gauge(&mut family, &labels, (endpoint.state == EndpointUse::Available).into())?;
        }
    }
    Ok(())
}

fn ejections(out: &mut Output, live: &Live) -> Result<(), Error> {
    let mut family = out.family(&families::UPSTREAM_EJECTIONS)?;
    for upstream in &live.upstreams {
        for cause in EjectionCause::ALL {
            let labels = [("upstream", upstream.name()), ("cause", cause.name())];
            counter(&mut family, &labels, upstream.guards.ejections(cause))?;
        }
    }
    let mut family = out.family(&families::UPSTREAM_EJECTIONS_WITHHELD)?;
    for upstream in &live.upstreams {
        let labels = [("upstream", upstream.name())];
        counter(&mut family, &labels, upstream.guards.ejections_withheld())?;
    }
    let mut family = out.family(&families::UPSTREAM_HEALTH_CHECKS)?;
    for upstream in &live.upstreams {
        for (result, good) in [("good", true), ("bad", false)] {
            let labels = [("upstream", upstream.name()), ("result", result)];
            counter(&mut family, &labels, upstream.guards.checks(good))?;
        }
    }
    Ok(())
}

fn breakers(
    out: &mut Output,
    live: &Live,
    states: &[(&str, Arc<dyn ShowGuards>)],
) -> Result<(), Error> {
    let mut family = out.family(&families::UPSTREAM_GUARDED)?;
    for (name, state) in states {
        for guard in Guard::ALL {
            let labels = [("upstream", *name), ("limit", guard.name())];
            gauge(&mut family, &labels, state.under_way(guard))?;
        }
    }
    let mut family = out.family(&families::UPSTREAM_LIMIT_REACHED)?;
    for upstream in &live.upstreams {
        for guard in Guard::ALL {
            let labels = [("upstream", upstream.name()), ("limit", guard.name())];
            counter(&mut family, &labels, upstream.guards.reached(guard))?;
        }
    }
    Ok(())
}

fn retries(
    out: &mut Output,
    live: &Live,
    states: &[(&str, Arc<dyn ShowGuards>)],
) -> Result<(), Error> {
    let mut family = out.family(&families::UPSTREAM_RETRIES)?;
    for upstream in &live.upstreams {
        for cause in RetryCause::ALL {
            let labels = [("upstream", upstream.name()), ("cause", cause.name())];
            counter(&mut family, &labels, upstream.guards.retries(cause))?;
        }
    }
    let mut family = out.family(&families::UPSTREAM_RETRIES_REFUSED)?;
    for upstream in &live.upstreams {
        for why in RetryRefusal::ALL {
            let labels = [("upstream", upstream.name()), ("reason", why.name())];
            counter(&mut family, &labels, upstream.guards.retry_refusals(why))?;
        }
    }
    let mut family = out.family(&families::UPSTREAM_HEDGES)?;
    for upstream in &live.upstreams {
        for result in HedgeResult::ALL {
            let labels = [("upstream", upstream.name()), ("result", result.name())];
            counter(&mut family, &labels, upstream.guards.hedges(result))?;
        }
    }
    let mut family = out.family(&families::UPSTREAM_RETRY_BUDGET)?;
    for (name, state) in states {
        if let Some(left) = state.budget_left() {
            gauge(&mut family, &[("upstream", *name)], left)?;
        }
    }
    Ok(())
}
