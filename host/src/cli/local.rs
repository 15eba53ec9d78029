//! Where a sidecar and its app listen when they are tried on this machine.

use crate::config::Config;
use crate::reload::refusal;
use anyhow::{Context, anyhow};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};

/// What the command line says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
pub(super) struct Wanted {
    /// Where the app listens [default: 127.0.0.1:3000]
    #[arg(long, value_name = "ADDR")]
    pub(super) app: Option<SocketAddr>,
    /// Where the sidecar listens [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub(super) listen: Option<SocketAddr>,
    /// Where the sidecar's admin interface listens [default: 127.0.0.1:9901]
    #[arg(long, value_name = "ADDR")]
    pub(super) admin: Option<SocketAddr>,
}

/// Where everything listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) app: SocketAddr,
    pub(super) listen: SocketAddr,
    pub(super) admin: SocketAddr,
}

impl Wanted {
    /// Defaults where nothing was said.
    pub(super) fn or_default(&self) -> Addresses {
        Addresses {
            app: self.app.unwrap_or(local(3000)),
            listen: self.listen.unwrap_or(local(8080)),
            admin: self.admin.unwrap_or(local(9901)),
        }
    }

    /// Is nothing else wanted than what is there?
    pub(super) fn agrees_with(&self, there: &Addresses) -> bool {
        let same = |wanted: Option<SocketAddr>, is| wanted.is_none_or(|wanted| wanted == is);
        same(self.app, there.app)
            && same(self.listen, there.listen)
            && same(self.admin, there.admin)
    }
}

impl Addresses {
    /// Those of a configuration: of its first listener and of the upstream `app`.
    pub(super) fn of(config: &Config) -> anyhow::Result<Self> {
        let listener = config.listeners.first().context("it has no listener")?;
        let upstream = config.upstreams.iter().find(|upstream| &*upstream.name == "app");
        let endpoint = upstream.and_then(|it| it.endpoints.first()).context("it has no `app`")?;
        let app = endpoint.to_string().parse().context("its `app` has no address")?;
        Ok(Addresses { app, listen: listener.address, admin: config.admin.address })
    }
}

pub(super) const fn local(port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

/// A socket of an address that nobody else uses. `flag` changes where `who` listens.
pub(super) fn free(address: SocketAddr, flag: &str, who: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| {
        let (message, help) = refusal(address, &error);
        anyhow!("{message}\nhelp: {help}: `{flag} ADDR` says where {who} listens")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_told_with_its_flag() {
        let taken = TcpListener::bind(local(0)).unwrap();
        let address = taken.local_addr().unwrap();
        let error = free(address, "--app", "the app").unwrap_err().to_string();
        assert!(error.contains("is in use by another process\nhelp: stop it"), "{error}");
        assert!(error.ends_with("`--app ADDR` says where the app listens"), "{error}");
    }

    #[test]
    fn only_what_is_wanted_otherwise_disagrees() {
        let there = Addresses { app: local(1), listen: local(2), admin: local(3) };
        assert!(Wanted::default().agrees_with(&there));
        assert!(Wanted { app: Some(local(1)), ..Wanted::default() }.agrees_with(&there));
        for wanted in [
            Wanted { app: Some(local(9)), ..Wanted::default() },
            Wanted { listen: Some(local(9)), ..Wanted::default() },
            Wanted { admin: Some(local(9)), ..Wanted::default() },
        ] {
            assert!(!wanted.agrees_with(&there), "{wanted:?}");
        }
    }
}
