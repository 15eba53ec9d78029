//! The trait that every filter implements: one method for each hook, all of them optional.

use serde::de::DeserializeOwned;

use crate::{
    BodyDecision, Chunk, ConfigError, Decision, Hooks, Outcome, Request, Response, Result, Trailers,
};

/// A filter. Write the hooks it needs under [`filter`](macro@crate::filter) and leave out the rest.
///
/// A value lives as long as its instance: many exchanges, one hook call at a time. There is one
/// instance for each worker thread, and one that failed is replaced, so the fields of a filter are a
/// cache and never a store: what must be right belongs into [`kv`](crate::kv),
/// [`rate_limit`](crate::rate_limit) or a note. The response of an exchange may come to another
/// instance than its request.
///
/// An `Err`, a panic, a missed deadline (5 ms a hook, 20 ms an exchange by default) or too much memory
/// is a failure of the filter: the request follows its fail policy, and the instance is replaced.
pub trait Filter: Sized + 'static {
    /// The filter's `config` table. Derive [`serde::Deserialize`] with `deny_unknown_fields`.
    type Config: DeserializeOwned;

    /// The version of the form in which the filter keeps what it has in [`kv`](crate::kv), to be
    /// raised with each change of it. Written together with [`migrate`](Self::migrate); without it,
    /// the version is 0.
    ///
    /// Versions of the filter with the same state version share one map. One with a higher state
    /// version than the filter that runs gets a copy of its map, migrated; the other keeps its own,
    /// so that to go back to it finds what it left.
    const STATE_VERSION: u32 = 0;

    /// Called once for every new instance, before any hook. There is no exchange: reading a message
    /// traps here. Metrics are best defined here.
    ///
    /// # Errors
    /// A [`ConfigError`] keeps the filter from being loaded and is shown at the line of its key.
    fn new(config: Self::Config) -> Result<Self, ConfigError>;

    /// The hooks that have something to do under this configuration: the host never calls the others.
    /// Asked once for every new instance, after [`new`](Self::new); there is no exchange. The answer
    /// must follow from the configuration alone, as the host goes by that of the first instance.
    /// Without this method, every hook that is written is called.
    ///
    /// ```
    /// use pillion_sdk::prelude::*;
    ///
    /// #[derive(serde::Deserialize)]
    /// #[serde(deny_unknown_fields)]
    /// struct Config { server: Option<String> }
    ///
    /// struct Named { server: Option<String> }
    ///
    /// #[filter]
    /// impl Filter for Named {
    ///     type Config = Config;
    ///
    ///     fn new(config: Config) -> Result<Self, ConfigError> {
    ///         Ok(Self { server: config.server })
    ///     }
    ///
    ///     fn wants(&self) -> Hooks {
    ///         match self.server {
    ///             Some(_) => Hooks::ALL,
    ///             None => Hooks::ALL.without(Hooks::ON_RESPONSE),
    ///         }
    ///     }
    ///
    ///     fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
    ///         request.remove_header("x-internal")?;
    ///         Ok(Decision::Proceed)
    ///     }
    ///
    ///     fn on_response(&mut self, _: &Request, response: &mut Response) -> Result<Decision> {
    ///         if let Some(server) = &self.server {
    ///             response.set_header("server", server)?;
    ///         }
    ///         Ok(Decision::Proceed)
    ///     }
    /// }
    /// ```
    fn wants(&self) -> Hooks {
        Hooks::ALL
    }

    /// Brings what is in [`kv`](crate::kv), a copy of the map of the filter that runs, from the form
    /// of its state version `from` into that of [`STATE_VERSION`](Self::STATE_VERSION), which is
    /// higher. Called once for a copy, after [`new`](Self::new), on an instance that is not used
    /// further; there is no exchange. [`kv::keys`](crate::kv::keys) lists what is there.
    ///
    /// # Errors
    /// An error keeps the filter from being loaded, and the copy is dropped.
    ///
    /// ```
    /// use pillion_sdk::prelude::*;
    ///
    /// #[derive(Default)]
    /// struct Visits;
    ///
    /// #[filter]
    /// impl Filter for Visits {
    ///     // Before, the entry of a client was its address alone.
    ///     const STATE_VERSION: u32 = 1;
    ///
    ///     fn migrate(&mut self, _from: u32) -> Result<()> {
    ///         let mut after = None;
    ///         loop {
    ///             let keys = kv::keys(after.as_deref());
    ///             for key in &keys {
    ///                 if let (Some(value), false) = (kv::get(key), key.starts_with("visits/")) {
    ///                     kv::set(&format!("visits/{key}"), &value, None)?;
    ///                     kv::delete(key);
    ///                 }
    ///             }
    ///             match keys.last() {
    ///                 Some(last) => after = Some(last.clone()),
    ///                 None => return Ok(()),
    ///             }
    ///         }
    ///     }
    ///
    ///     fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
    ///         kv::set(&format!("visits/{}", request.client_address()), b"seen", None)?;
    ///         Ok(Decision::Proceed)
    ///     }
    /// }
    ///
    /// use pillion_sdk::testing::{Host, json};
    /// let host = Host::new().kv_entry("192.0.2.1", b"seen");
    /// host.migrate::<Visits>(0, json!({})).unwrap();
    /// assert_eq!(host.kv("visits/192.0.2.1").unwrap(), b"seen");
    /// assert_eq!(host.kv("192.0.2.1"), None);
    /// ```
    fn migrate(&mut self, from: u32) -> Result<()> {
        // Not exported, and so not called, where it is not written.
        let _ = from;
        Ok(())
    }

    /// A request head is complete. Reads and edits it, or answers locally.
    ///
    /// # Errors
    /// An error is a failure of the filter.
    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        let _ = request;
        Ok(Decision::Proceed)
    }

    /// A chunk of a request body, at most 64 KiB. The head can be edited only while
    /// [`Decision::WaitForBody`] keeps it back. A request without a body makes no call.
    ///
    /// # Errors
    /// An error is a failure of the filter.
    fn on_request_body(&mut self, request: &mut Request, chunk: Chunk<'_>) -> Result<BodyDecision> {
        let _ = (request, chunk);
        Ok(BodyDecision::Pass)
    }

    /// A request ends with trailers, after the last chunk.
    ///
    /// # Errors
    /// An error is a failure of the filter.
    fn on_request_trailers(&mut self, request: &Request, trailers: &mut Trailers) -> Result<()> {
        let _ = (request, trailers);
        Ok(())
    }

    /// A response head is complete: the upstream's, or a local one of a later filter or of the host.
    /// `request` is the one that was forwarded.
    ///
    /// # Errors
    /// An error is a failure of the filter.
    fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<Decision> {
        let _ = (request, response);
        Ok(Decision::Proceed)
    }

    /// A chunk of a response body, at most 64 KiB. The head can be edited only while
    /// [`Decision::WaitForBody`] keeps it back.
    ///
    /// # Errors
    /// An error is a failure of the filter.
    fn on_response_body(
        &mut self,
        request: &Request,
        response: &mut Response,
        chunk: Chunk<'_>,
    ) -> Result<BodyDecision> {
        let _ = (request, response, chunk);
        Ok(BodyDecision::Pass)
    }

    /// A response ends with trailers, after the last chunk.
    ///
    /// # Errors
    /// An error is a failure of the filter.
    fn on_response_trailers(
        &mut self,
        request: &Request,
        response: &Response,
        trailers: &mut Trailers,
    ) -> Result<()> {
        let _ = (request, response, trailers);
        Ok(())
    }

    /// The exchange is over: the last byte is sent, or the client is gone.
    ///
    /// # Errors
    /// An error is a failure of the filter; the client has its response already.
    fn on_complete(&mut self, request: &Request, outcome: &Outcome) -> Result<()> {
        let _ = (request, outcome);
        Ok(())
    }

    /// The filter of a crate without `new`: written by the attribute.
    #[doc(hidden)]
    fn __without_config() -> Option<Self> {
        None
    }
}

/// The configuration of a filter that takes none: any key is an error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}
