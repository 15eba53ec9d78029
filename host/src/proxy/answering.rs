//! Where an answer is awaited, in either wire format: its heads, and then its body.
//!
//! Knows nothing of repetitions; it tells what a connection that broke says of the request.

use super::ends::Source;
use super::reply::Fault;
use crate::http::{BodyLength, RequestHead, ResponseHead};
use crate::http1::{self, HeadLimits, ReadError, Reader};
use crate::http2::{self, RequestError};
use crate::io::tls::is_alert;
use std::task::{Context, Poll, ready};

/// Where an answer is awaited.
pub(super) enum Answering<'c> {
    Http1 { reader: &'c mut Reader, keepable: &'c mut bool },
    Http2(http2::Response),
}

pub(super) enum Head {
    Interim,
    Final(BodyLength, Option<http2::BodyReader>),
    Stale,
}

impl Answering<'_> {
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        request: &RequestHead,
        head: &mut ResponseHead,
        limits: &HeadLimits,
    ) -> Poll<Result<Head, Fault>> {
        match self {
            Answering::Http1 { reader, keepable } => {
                match ready!(reader.poll_response_head(cx, &request.method, head, limits)) {
                    Ok(_) if (100..=199).contains(&head.status) && head.status != 101 => {
                        Poll::Ready(Ok(Head::Interim))
                    }
                    Ok(framing) => {
                        if head.status == 101 && !switches_as_asked(request, head) {
                            return Poll::Ready(Err(Fault::UpgradeFailed));
                        }
                        **keepable = framing.keep_alive;
                        let length = framing.content_length.map_or(framing.body, BodyLength::Exact);
                        Poll::Ready(Ok(Head::Final(length, None)))
                    }
                    Err(ReadError::Closed) => Poll::Ready(Ok(Head::Stale)),
                    Err(error) => Poll::Ready(Err(fault_of_read(&error))),
                }
            }
            Answering::Http2(response) => match ready!(response.poll_head(cx, head)) {
                Ok(http2::Answer::Interim) => Poll::Ready(Ok(Head::Interim)),
                Ok(http2::Answer::Final(framing, body)) => {
                    let length = framing.content_length.map_or(framing.body, BodyLength::Exact);
                    Poll::Ready(Ok(Head::Final(length, Some(body))))
                }
                Err(RequestError::Unprocessed) => Poll::Ready(Ok(Head::Stale)),
                Err(error) => Poll::Ready(Err(fault_of_request(&error))),
            },
        }
    }

    pub(super) fn source(&mut self, body: Option<http2::BodyReader>) -> Source<'_> {
        match (self, body) {
            (Answering::Http1 { reader, .. }, _) => Source::Http1(reader),
            (_, Some(body)) => Source::Http2(body),
            (_, None) => Source::None,
        }
    }
}

/// Is the switch to the protocol that the client asked for?
fn switches_as_asked(request: &RequestHead, response: &ResponseHead) -> bool {
    let (Some(asked), Some(got)) = (&request.upgrade, &response.upgrade) else { return false };
    asked.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case(got.trim()))
}

fn fault_of_read(error: &ReadError) -> Fault {
    match error {
        ReadError::Head(http1::HeadError::TooLarge | http1::HeadError::TooManyFields) => {
            Fault::UpstreamHeadTooLarge
        }
        ReadError::Head(_) | ReadError::BodyUnread => Fault::UpstreamMalformed,
        ReadError::Truncated => Fault::UpstreamIncomplete,
        ReadError::Io(error) if is_alert(error) => Fault::UpstreamAlert,
        ReadError::Closed | ReadError::Io(_) => Fault::UpstreamReset,
    }
}

pub(super) fn fault_of_request(error: &RequestError) -> Fault {
    match error {
        RequestError::Head(http2::HeadError::TooLarge | http2::HeadError::TooManyFields) => {
            Fault::UpstreamHeadTooLarge
        }
        RequestError::Head(_) | RequestError::Protocol(_) => Fault::UpstreamMalformed,
        RequestError::Io(error) if is_alert(error) => Fault::UpstreamAlert,
        RequestError::Unprocessed | RequestError::Reset(_) | RequestError::Io(_) => {
            Fault::UpstreamReset
        }
    }
}
