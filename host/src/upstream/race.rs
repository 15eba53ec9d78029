//! A new connection to a name that has addresses of both families: when the endpoint that was chosen
//! does not accept in `connect_race_delay`, or fails, one of the other family is tried beside it, and
//! the first that accepts has won (RFC 8305 section 5). Who has lost is not tried first for a while, so
//! that a family that leads nowhere costs a worker that delay once, not each new connection.

use super::pool::{Endpoint, Reached};
use super::{Connection, LendError, Upstream};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// For so long an endpoint that has lost a race is tried second.
pub const RACE_REMEMBERED: Duration = Duration::from_secs(30);

/// Who has won a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Winner {
    Chosen,
    StandIn,
}

/// A connection to `chosen`, or to `stand_in`; who has made it, or why the one that was tried first has
/// not.
///
/// # Cancel safety
/// Connections that are being made are given up when the future is dropped.
pub(super) async fn open(
    upstream: &Upstream,
    chosen: &Rc<Endpoint>,
    stand_in: &Rc<Endpoint>,
) -> (Winner, Result<Connection, LendError>) {
    let swaps = chosen.has_lost() && !stand_in.has_lost();
    let order = [(Winner::Chosen, chosen), (Winner::StandIn, stand_in)];
    let [(first_is, first), (second_is, second)] = if swaps { [order[1], order[0]] } else { order };
    let (has_won, reached) = match reach_either(upstream, first, second).await {
        Ok(reached) => reached,
        Err(error) => return (first_is, Err(error)),
    };
    let (winner, endpoint) = if has_won {
        first.forget_loss();
        (first_is, first)
    } else {
        first.lose_until(Instant::now() + RACE_REMEMBERED);
        (second_is, second)
    };
    (winner, endpoint.begin(upstream, reached).await)
}

/// A socket, and whether it leads to the first of both.
async fn reach_either(
    upstream: &Upstream,
    first: &Endpoint,
    second: &Endpoint,
) -> Result<(bool, Reached), LendError> {
    let ahead = first.reach(upstream);
    tokio::pin!(ahead);
    // Cancelled branches lose nothing: `ahead` is waited for again.
    tokio::select! {
        biased;
        reached = &mut ahead => match reached {
            Ok(reached) => return Ok((true, reached)),
            Err(error) => {
                return second.reach(upstream).await.map(|it| (false, it)).map_err(|_| error);
            }
        },
        () = sleep(upstream.limits.connect_race_delay) => {}
    }
    let beside = second.reach(upstream);
    tokio::pin!(beside);
    // The branch that is cancelled is the connection that is not needed.
    tokio::select! {
        biased;
        reached = &mut ahead => match reached {
            Ok(reached) => Ok((true, reached)),
            Err(error) => beside.await.map(|it| (false, it)).map_err(|_| error),
        },
        reached = &mut beside => match reached {
            Ok(reached) => Ok((false, reached)),
            Err(_) => ahead.await.map(|it| (true, it)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::Endpoints;
    use super::super::state::State;
    use super::*;
    use crate::config::{self, UpstreamLimits};
    use crate::dns::Addresses;
    use crate::telemetry::Metrics;
    use std::net::TcpListener;
    use std::time::UNIX_EPOCH;

    fn upstream() -> Upstream {
        let stats = Metrics::new(1, UNIX_EPOCH).upstream("app");
        let config = config::Upstream {
            name: "app".into(),
            endpoints: Vec::new(),
            protocol: config::Protocol::Http1,
            tls: None,
            policy: config::Policy::default(),
            // Whoever waits for it makes the test fail.
            limits: UpstreamLimits {
                connect_race_delay: Duration::from_secs(600),
                ..UpstreamLimits::default()
            },
        };
        let state = State::alone("app".into(), &[], stats.clone());
        Upstream::new(&config, Addresses::fixed(&[]), None, Rc::default(), state, stats, 0)
    }

    /// One that accepts as long as the listener is there.
    fn accepting(endpoints: &Endpoints) -> (Rc<Endpoint>, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        (endpoints.of(listener.local_addr().unwrap(), None), listener)
    }

    async fn race(
        upstream: &Upstream,
        chosen: &Rc<Endpoint>,
        stand_in: &Rc<Endpoint>,
    ) -> (Winner, Option<LendError>) {
        let (winner, opened) = open(upstream, chosen, stand_in).await;
        (winner, opened.err())
    }

    #[tokio::test]
    async fn who_has_lost_is_tried_second_for_a_while() {
        let (upstream, endpoints) = (upstream(), Endpoints::default());
        let ((good, _kept), (dead, _)) = (accepting(&endpoints), accepting(&endpoints));
        let (other, _) = accepting(&endpoints);
        assert_eq!(race(&upstream, &good, &dead).await, (Winner::Chosen, None));
        assert!(!good.has_lost() && !dead.has_lost());
        assert_eq!(race(&upstream, &dead, &good).await, (Winner::StandIn, None));
        assert!(dead.has_lost());
        let refused = Some(LendError::Refused);
        assert_eq!(race(&upstream, &dead, &other).await, (Winner::StandIn, refused));
        dead.lose_until(Instant::now());
        assert_eq!(race(&upstream, &dead, &other).await, (Winner::Chosen, refused));
        assert!(!dead.has_lost() && !other.has_lost(), "nobody has won");
    }

    #[tokio::test]
    async fn who_wins_is_tried_first_again() {
        let (upstream, endpoints) = (upstream(), Endpoints::default());
        let ((one, _kept), (other, _kept_too)) = (accepting(&endpoints), accepting(&endpoints));
        one.lose_until(Instant::now() + RACE_REMEMBERED);
        assert_eq!(race(&upstream, &one, &other).await, (Winner::StandIn, None));
        other.lose_until(Instant::now() + RACE_REMEMBERED);
        assert_eq!(race(&upstream, &one, &other).await, (Winner::Chosen, None));
        assert!(!one.has_lost() && other.has_lost());
    }
}
