//! `pillion demo`: a small app, a sidecar with the shipped filters before it, and lines to try.
//!
//! The sidecar is the one of `pillion run`, with a file that this writes into a folder; a file that
//! was edited stays.

use super::{demo_app, say};
use crate::app::{self, Options, Ready};
use crate::config::{self, Config};
use crate::reload::refusal;
use anyhow::{Context, anyhow, bail};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const APP_DEFAULT: SocketAddr = local(3000);
const LISTEN_DEFAULT: SocketAddr = local(8080);
const ADMIN_DEFAULT: SocketAddr = local(9901);
const FILE_NAME: &str = "pillion.toml";
/// The field of the line that the user is asked to edit.
const EDITED_FIELD: &str = "x-greeting";

const fn local(port: u16) -> SocketAddr {
    SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, port))
}

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where the app listens [default: 127.0.0.1:3000]
    #[arg(long, value_name = "ADDR")]
    app: Option<SocketAddr>,
    /// Where the sidecar listens [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where the sidecar's admin interface listens [default: 127.0.0.1:9901]
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// The folder for the configuration file
    #[arg(long, value_name = "DIR", default_value = "./pillion-demo")]
    dir: PathBuf,
}

pub(super) fn main(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let file = arguments.dir.join(FILE_NAME);
    let addresses = match std::fs::read_to_string(&file) {
        Ok(text) => kept(&arguments, &file, &text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => wanted(&arguments),
        Err(error) => bail!("failed to read `{}`: {error}", file.display()),
    };
    let app = free(addresses.app, "--app", "app")?;
    drop(free(addresses.listen, "--listen", "sidecar")?);
    drop(free(addresses.admin, "--admin", "admin interface")?);
    if !file.exists() {
        std::fs::create_dir_all(&arguments.dir)
            .and_then(|()| std::fs::write(&file, text(&addresses)))
            .with_context(|| format!("failed to write `{}`", file.display()))?;
    }
    demo_app::spawn(app).context("failed to start the demo's app")?;
    let config = file.clone();
    let on_ready = Box::new(move |ready: &Ready| {
        // Without a standard output there is nobody to read it.
        let _ = say(&instructions(ready, addresses.app, &file));
    });
    Ok(app::run(Options { config, log: None, on_ready: Some(on_ready) })?)
}

/// Where everything listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Addresses {
    app: SocketAddr,
    listen: SocketAddr,
    admin: SocketAddr,
}

fn wanted(arguments: &Arguments) -> Addresses {
    Addresses {
        app: arguments.app.unwrap_or(APP_DEFAULT),
        listen: arguments.listen.unwrap_or(LISTEN_DEFAULT),
        admin: arguments.admin.unwrap_or(ADMIN_DEFAULT),
    }
}

/// The addresses of a file that is there. One that is as it was written makes way for other
/// addresses; one that was edited does not.
fn kept(arguments: &Arguments, file: &Path, found: &str) -> anyhow::Result<Addresses> {
    let loaded = config::load(file, "choose another folder with `--dir DIR`")
        .map_err(|problems| anyhow!("{problems}"))?;
    let addresses = of(&loaded.config).with_context(|| {
        format!("`{}` is no file of the demo; name another folder with `--dir`", file.display())
    })?;
    let asked = |given: Option<SocketAddr>, has| given.is_none_or(|given| given == has);
    let same = asked(arguments.app, addresses.app)
        && asked(arguments.listen, addresses.listen)
        && asked(arguments.admin, addresses.admin);
    if same {
        return Ok(addresses);
    }
    if found != text(&addresses) {
        bail!(
            "`{}` was edited and has other addresses; change them there, remove it, or name \
             another folder with `--dir`",
            file.display()
        );
    }
    std::fs::remove_file(file)
        .with_context(|| format!("failed to replace `{}`", file.display()))?;
    Ok(wanted(arguments))
}

fn of(config: &Config) -> anyhow::Result<Addresses> {
    let listener = config.listeners.first().context("it has no listener")?;
    let upstream = config.upstreams.iter().find(|upstream| &*upstream.name == "app");
    let endpoint = upstream.and_then(|it| it.endpoints.first()).context("it has no `app`")?;
    let app = endpoint.to_string().parse().context("its `app` has no address")?;
    Ok(Addresses { app, listen: listener.address, admin: config.admin.address })
}

/// A socket of an address that nobody else uses.
fn free(address: SocketAddr, flag: &str, who: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| {
        let (message, help) = refusal(address, &error);
        anyhow!("{message}\nhelp: {help}: `{flag} ADDR` says where the demo's {who} listens")
    })
}

fn text(addresses: &Addresses) -> String {
    let Addresses { app, listen, admin } = addresses;
    format!(
        r#"# The demo of Pillion. Save a change while it runs: the next request is served by it.

[admin]
address = "{admin}"

[access_log]
destination = "./access.log"

[[listener]]
name = "inbound"
address = "{listen}"

  [[listener.route]]
  chain = ["trace", "headers", "limit"]
  upstream = "app"

[upstream.app]
endpoints = ["{app}"]

# Gives every request a trace and an id.
[filter.trace]
source = "builtin:trace"
config = {{ response = ["trace-id", "request-id"] }}

# Edits the fields of requests and responses.
[filter.headers]
source = "builtin:headers"

[filter.headers.config]
request = [{{ set = {{ name = "x-client", value = "${{client.address}}" }} }}]
response = [{{ set = {{ name = "{EDITED_FIELD}", value = "hello" }} }}]

# Refuses what is too much: eight requests at once, and then four a second.
[filter.limit]
source = "builtin:rate-limit"
config = {{ fields = "always" }}
grants = {{ rate-limit = {{ requests = 4, per = "1s", burst = 8 }} }}
"#
    )
}

fn instructions(ready: &Ready, app: SocketAddr, file: &Path) -> String {
    let listen = ready.listeners.first().map_or(LISTEN_DEFAULT, |(_, address)| *address);
    let admin = ready.admin;
    let shown = file.display();
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().position(|line| line.contains(EDITED_FIELD));
    let swap = line.map_or_else(String::new, |line| {
        format!(
            "\nSwap a filter while requests flow: change the value of `{EDITED_FIELD}` at\n  \
             {shown}:{}\nsave, and repeat the first command.\n",
            line + 1
        )
    });
    format!(
        "\nPillion serves a small app.\n
  sidecar  http://{listen}   filters: trace, headers, limit
  app      http://{app}
  admin    http://{admin}
  file     {shown}

Try in another terminal:

  # The app sees a trace and the client's address; the response has a greeting and ids.
  curl -i http://{listen}/hello

  # Of twelve requests at once, the last ones are refused with 429.
  for i in $(seq 12); do curl -s -o /dev/null -w '%{{http_code}}\\n' http://{listen}/; done

  # What each filter decided.
  curl -s http://{admin}/metrics | grep pillion_filter_decisions_total
{swap}
Ctrl-C ends the demo.
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESSES: Addresses = Addresses { app: local(1), listen: local(2), admin: local(3) };

    fn arguments() -> Arguments {
        Arguments { app: None, listen: None, admin: None, dir: PathBuf::new() }
    }

    #[test]
    fn the_file_is_a_configuration_with_these_addresses() {
        let written = text(&ADDRESSES);
        let loaded = config::parse(&written, "p.toml", Path::new("/"), &|_| None).unwrap();
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        assert_eq!(of(&loaded.config).unwrap(), ADDRESSES);
    }

    #[test]
    fn the_edited_line_is_told() {
        let directory = std::env::temp_dir().join(format!("pillion-demo-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join(FILE_NAME);
        std::fs::write(&file, text(&ADDRESSES)).unwrap();
        let ready = Ready { admin: local(3), listeners: vec![("inbound".into(), local(2))] };
        let shown = instructions(&ready, local(1), &file);
        let line = text(&ADDRESSES).lines().position(|line| line.contains("\"hello\"")).unwrap();
        assert!(shown.contains(&format!("{}:{}\n", file.display(), line + 1)), "{shown}");

        // As it was written it makes way; edited it stays.
        let other = Arguments { listen: Some(local(9)), ..arguments() };
        std::fs::write(&file, text(&ADDRESSES) + "# mine\n").unwrap();
        let edited = std::fs::read_to_string(&file).unwrap();
        assert_eq!(kept(&arguments(), &file, &edited).unwrap(), ADDRESSES);
        assert!(kept(&other, &file, &edited).unwrap_err().to_string().contains("was edited"));
        std::fs::write(&file, text(&ADDRESSES)).unwrap();
        assert_eq!(kept(&other, &file, &text(&ADDRESSES)).unwrap().listen, local(9));
        assert!(!file.exists());
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_port_in_use_is_told_with_its_flag() {
        let taken = TcpListener::bind(local(0)).unwrap();
        let error = free(taken.local_addr().unwrap(), "--app", "app").unwrap_err().to_string();
        assert!(error.contains("is in use by another process\nhelp: stop it"), "{error}");
        assert!(error.contains("`--app ADDR`"), "{error}");
    }
}
