//! The suite: Pillion as its users meet it, a running process behind real sockets. One promise a
//! file; the name of a test is the sentence it proves. The harness is the package `pillion-tests`.

mod drain;
mod forwarding;
mod headers;
mod limits;
mod malformed;
mod poison;
mod quarantine;
mod routing;
mod timeouts;
mod truncation;
mod upgrade;
mod upstream;
