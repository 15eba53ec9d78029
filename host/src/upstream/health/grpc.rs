//! The health check of gRPC (`grpc.health.v1.Health/Check`): its two messages have one field each,
//! written and read here by hand (<https://protobuf.dev/programming-guides/encoding/>).

use crate::http::{BodyLength, Fields, Frame, Name, RequestHead, ResponseHead};
use crate::http2::{BodyReader, Client};
use bytes::Bytes;
use http::Method;
use std::future::poll_fn;

/// Bytes of an answer, beyond which it is none.
const ANSWER_BYTES_MAX: usize = 1 << 10;

/// Field 1 of a message, a number.
const NUMBER_1: u64 = 0x08;
/// Field 1 of a message, a text.
const TEXT_1: u8 = 0x0a;
/// `SERVING`
const SERVING: u64 = 1;

/// Asks for the health of `service`; empty: of the whole server.
pub(super) async fn is_serving(client: &Client, authority: String, service: &str) -> Option<bool> {
    let mut fields = Fields::default();
    fields.append(Name::known("content-type"), b"application/grpc");
    fields.append(Name::known("user-agent"), super::USER_AGENT);
    let head = RequestHead {
        method: Method::POST,
        authority,
        target: "/grpc.health.v1.Health/Check".to_owned(),
        fields,
        accepts_trailers: true,
        ..RequestHead::default()
    };
    let (mut answer, writer) = client.request(&head, BodyLength::Unknown, false).ok()?;
    let mut writer = writer?;
    writer.data(question(service)).ok()?;
    writer.end(None).ok()?;
    poll_fn(|cx| writer.poll_flush(cx)).await.ok()?;
    let mut head = ResponseHead::default();
    let mut body = super::final_head(&mut answer, &mut head).await?;
    let (message, trailers) = whole(&mut body).await?;
    let status = trailers.as_ref().unwrap_or(&head.fields).get(Name::known("grpc-status"))?;
    Some(head.status == 200 && status == b"0" && says_serving(&message)?)
}

/// A body that is short enough, and its trailers.
async fn whole(body: &mut BodyReader) -> Option<(Vec<u8>, Option<Fields>)> {
    let mut message = Vec::new();
    loop {
        match poll_fn(|cx| body.poll_frame(cx)).await.ok()? {
            Frame::Data(bytes) => message.extend_from_slice(&bytes),
            Frame::End => return Some((message, None)),
            Frame::Trailers(trailers) => return Some((message, Some(trailers))),
        }
        if message.len() > ANSWER_BYTES_MAX {
            return None;
        }
    }
}

/// The request as gRPC frames it: not compressed, its length, the message.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(TEXT_1);
        put_number(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

/// Is the status of the answer `SERVING`? None: it is no answer.
fn says_serving(framed: &[u8]) -> Option<bool> {
    let (prefix, mut message) = framed.split_first_chunk::<5>()?;
    let [0, length @ ..] = prefix else { return None };
    if u32::from_be_bytes(*length) as usize != message.len() {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let tag = take_number(&mut message)?;
        match tag & 7 {
            0 if tag == NUMBER_1 => status = take_number(&mut message)?,
            // Fields that are not known here are passed over.
            0 => drop(take_number(&mut message)?),
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(take_number(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status == SERVING)
}

/// Seven bits a byte, the lowest first.
fn put_number(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

fn take_number(message: &mut &[u8]) -> Option<u64> {
    const BYTES_MAX: usize = 10;
    let mut number = 0_u64;
    for nth in 0..BYTES_MAX {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f).checked_shl(7 * nth as u32)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_name_their_service() {
        assert_eq!(question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(question("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = question(&"s".repeat(200));
        assert_eq!(long[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 1]);
    }

    #[test]
    fn only_serving_is_well() {
        for (framed, said) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(true)),
            (&[0, 0, 0, 0, 2, 8, 2], Some(false)),
            (&[0, 0, 0, 0, 0], Some(false)),
            (&[0, 0, 0, 0, 4, 8, 2, 8, 1], Some(true)),
            (&[0, 0, 0, 0, 6, 0x12, 2, 8, 2, 8, 1], Some(true)),
            (&[0, 0, 0, 0, 3, 8, 0x81, 0], Some(true)),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 3, 8, 1], None),
            (&[0, 0, 0, 0, 1, 8], None),
            (&[0, 0, 0, 0, 2, 0x0b, 1], None),
            (&[0, 0, 0, 0, 3, 0x12, 9, 0], None),
            (&[0, 0], None),
        ] {
            assert_eq!(says_serving(framed), said, "{framed:?}");
        }
        let endless = [&[0, 0, 0, 0, 12, 8][..], &[0xff; 11]].concat();
        assert_eq!(says_serving(&endless), None);
    }
}
