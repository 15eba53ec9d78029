//! The suite: Pillion as its users meet it, a running process behind real sockets. One promise a
//! file; the name of a test is the sentence it proves. The harness is the package `pillion-tests`.

mod access_log;
mod admin;
mod cases;
mod cli;
mod compress;
mod cors;
mod dev;
mod documents;
mod drain;
mod filters;
mod forwarding;
mod guests;
mod h2c;
mod h2c_limits;
mod headers;
mod inspect;
mod jwt;
mod languages;
mod layers;
mod limits;
mod malformed;
mod parity;
mod peers;
mod poison;
mod quarantine;
mod routing;
mod scaffold;
mod served_cases;
mod swap;
mod timeouts;
mod tls;
mod truncation;
mod upgrade;
mod upstream;
mod validate_json;
