//! The `compress` filter: compresses response bodies with gzip as they stream by.
//!
//! The hooks decide once a response and then turn chunk into chunk. The rules are pure and elsewhere:
//! `accept` (what the client wants), `content` (what may be compressed), `gzip` (the stream). README.md
//! describes the configuration.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::ToString;
use core::fmt;

mod accept;
mod config;
mod content;
mod gzip;
mod streams;
#[cfg(test)]
mod tests;

use pillion_sdk::metrics::Counter;
use pillion_sdk::prelude::*;

pub use crate::config::Config;
use crate::config::Settings;
use crate::content::Content;
use crate::gzip::Gzip;
use crate::streams::{Stream, Streams};

const ETAG: &str = "etag";
const VARY: &str = "vary";

/// Carries the number of a stream from hook to hook.
const NOTE: &str = "compress.stream";

/// The filter: its settings, and what is being compressed.
pub struct Compress {
    settings: Settings,
    streams: Streams,
    taken: Counter,
    given: Counter,
}

pillion_sdk::no_std!();

#[filter]
impl Filter for Compress {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        let taken = Counter::define("compress_in_bytes_total", "Bytes that were compressed.", &[])?;
        let given = Counter::define("compress_out_bytes_total", "Bytes they became.", &[])?;
        Ok(Self { settings: config.check()?, streams: Streams::default(), taken, given })
    }

    fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<Decision> {
        let status = response.status();
        if status == 304 {
            weaken_revalidated(request, response)?;
            return Ok(Decision::SkipBody);
        }
        let content =
            content::judge(&self.settings.types, status, |name| response.header_all(name));
        let Content::Compressible { streamed } = content else {
            return Ok(Decision::SkipBody);
        };
        if content::forbids_transforming(&request.header_all("cache-control")) {
            return Ok(Decision::SkipBody);
        }
        vary(response)?;
        // Without a body there is nothing to change the other fields for.
        if request.method() == "HEAD"
            || !accept::wants_gzip(&request.header_all("accept-encoding"))
            || self.streams.is_full()
        {
            return Ok(Decision::SkipBody);
        }
        let id = random::number();
        request.set_note(NOTE, &id.to_string())?;
        if streamed || self.settings.min_bytes == 0 {
            encoded(response)?;
            let Settings { level, max_bytes, .. } = self.settings;
            self.streams.add(id, Stream::Running(Gzip::new(level, max_bytes)));
            return Ok(Decision::Proceed);
        }
        self.streams.add(id, Stream::Waiting);
        Ok(Decision::WaitForBody)
    }

    fn on_response_body(
        &mut self,
        request: &Request,
        response: &mut Response,
        chunk: Chunk<'_>,
    ) -> Result<BodyDecision> {
        let lost = || Error::new("the beginning of this response went with another instance");
        let id = id(request).ok_or_else(lost)?;
        let stream = self.streams.find(id).ok_or_else(lost)?;
        let out = match stream {
            Stream::Running(gzip) => gzip.push(chunk.bytes(), chunk.is_last()),
            Stream::Waiting => {
                let there = chunk.held_len().saturating_add(chunk.bytes().len() as u64);
                if there < self.settings.min_bytes {
                    // With the last chunk the response goes on as it came.
                    return Ok(BodyDecision::Hold);
                }
                encoded(response)?;
                let mut gzip = Gzip::new(self.settings.level, self.settings.max_bytes);
                let out = gzip.push(&chunk.held_and_this(), chunk.is_last());
                *stream = Stream::Running(gzip);
                out
            }
        };
        let out = out.map_err(|_broken| Error::new("failed to compress a chunk"))?;
        self.given.add(out.len() as f64, &[])?;
        Ok(BodyDecision::Replace(out))
    }

    /// The client may have left in the middle of a response.
    fn on_complete(&mut self, request: &Request, _: &Outcome) -> Result<()> {
        let Some(Stream::Running(gzip)) = id(request).and_then(|id| self.streams.remove(id)) else {
            return Ok(());
        };
        Ok(self.taken.add(gzip.taken() as f64, &[])?)
    }
}

impl fmt::Debug for Compress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compress").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn id(request: &Request) -> Option<u64> {
    request.note(NOTE)?.parse().ok()
}

/// What else changes with the bytes of a body.
fn encoded(response: &mut Response) -> Result<()> {
    response.set_header("content-encoding", "gzip")?;
    // Ranges are of the bytes that the upstream has.
    response.remove_header("accept-ranges")?;
    if let Some(tag) = response.header(ETAG).and_then(|tag| content::weak(&tag)) {
        response.set_header(ETAG, &tag)?;
    }
    Ok(())
}

/// A client that asks whether its copy is still good has the tag that we made weak; only under this
/// tag it finds its copy again (RFC 9111 section 4.3.4).
fn weaken_revalidated(request: &Request, response: &mut Response) -> Result<()> {
    let Some(tag) = response.header(ETAG).and_then(|tag| content::weak(&tag)) else {
        return Ok(());
    };
    if content::has_tag(&request.header_all("if-none-match"), &tag) {
        response.set_header(ETAG, &tag)?;
        vary(response)?;
    }
    Ok(())
}

fn vary(response: &mut Response) -> Result<()> {
    if !content::names(&response.header_all(VARY), "accept-encoding") {
        response.append_header(VARY, "accept-encoding")?;
    }
    Ok(())
}
