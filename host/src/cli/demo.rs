//! `pillion demo`: a small app, a sidecar with the shipped filters before it, and lines to try.
//!
//! The sidecar is the one of `pillion run`, with a file that this writes into a folder; a file that
//! was edited stays.

use super::local::{Addresses, Wanted, free};
use super::{demo_app, say};
use crate::app::{self, Options, Ready};
use crate::config;
use anyhow::{Context, anyhow, bail};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const FILE_NAME: &str = "pillion.toml";
/// The field of the line that the user is asked to edit.
const EDITED_FIELD: &str = "x-greeting";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    addresses: Wanted,
    /// The folder for the configuration file
    #[arg(long, value_name = "DIR", default_value = "./pillion-demo")]
    dir: PathBuf,
}

pub(super) fn main(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let file = arguments.dir.join(FILE_NAME);
    let addresses = match std::fs::read_to_string(&file) {
        Ok(text) => kept(&arguments, &file, &text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            arguments.addresses.or_default()
        }
        Err(error) => bail!("failed to read `{}`: {error}", file.display()),
    };
    let app = free(addresses.app, "--app", "the demo's app")?;
    drop(free(addresses.listen, "--listen", "the demo's sidecar")?);
    drop(free(addresses.admin, "--admin", "the demo's admin interface")?);
    if !file.exists() {
        std::fs::create_dir_all(&arguments.dir)
            .and_then(|()| std::fs::write(&file, text(&addresses)))
            .with_context(|| format!("failed to write `{}`", file.display()))?;
    }
    demo_app::spawn(app).context("failed to start the demo's app")?;
    let config = file.clone();
    let on_ready = Box::new(move |ready: &Ready| {
        // Without a standard output there is nobody to read it.
        let _ = say(&instructions(ready, &addresses, &file));
    });
    Ok(app::run(Options { config, log: None, on_ready: Some(on_ready) })?)
}

/// The addresses of a file that is there. One that is as it was written makes way for other
/// addresses; one that was edited does not.
fn kept(arguments: &Arguments, file: &Path, found: &str) -> anyhow::Result<Addresses> {
    let loaded = config::load(file, "choose another folder with `--dir DIR`")
        .map_err(|problems| anyhow!("{problems}"))?;
    let addresses = Addresses::of(&loaded.config).with_context(|| {
        format!("`{}` is no file of the demo; name another folder with `--dir`", file.display())
    })?;
    if arguments.addresses.agrees_with(&addresses) {
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
    Ok(arguments.addresses.or_default())
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

fn instructions(ready: &Ready, addresses: &Addresses, file: &Path) -> String {
    let Addresses { app, listen, admin } = *addresses;
    let listen = ready.listeners.first().map_or(listen, |(_, address)| *address);
    let admin = ready.admin.unwrap_or(admin);
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
    use super::super::local::local;
    use super::*;

    const ADDRESSES: Addresses = Addresses { app: local(1), listen: local(2), admin: local(3) };

    fn arguments() -> Arguments {
        Arguments { addresses: Wanted::default(), dir: PathBuf::new() }
    }

    #[test]
    fn the_file_is_a_configuration_with_these_addresses() {
        let written = text(&ADDRESSES);
        let loaded = config::parse(&written, "p.toml", Path::new("/"), &|_| None).unwrap();
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        assert_eq!(Addresses::of(&loaded.config).unwrap(), ADDRESSES);
    }

    #[test]
    fn the_edited_line_is_told() {
        let directory = std::env::temp_dir().join(format!("pillion-demo-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join(FILE_NAME);
        std::fs::write(&file, text(&ADDRESSES)).unwrap();
        let ready = Ready { admin: Some(local(3)), listeners: vec![("inbound".into(), local(2))] };
        let shown = instructions(&ready, &ADDRESSES, &file);
        let line = text(&ADDRESSES).lines().position(|line| line.contains("\"hello\"")).unwrap();
        assert!(shown.contains(&format!("{}:{}\n", file.display(), line + 1)), "{shown}");

        // As it was written it makes way; edited it stays.
        let addresses = Wanted { listen: Some(local(9)), ..Wanted::default() };
        let other = Arguments { addresses, ..arguments() };
        std::fs::write(&file, text(&ADDRESSES) + "# mine\n").unwrap();
        let edited = std::fs::read_to_string(&file).unwrap();
        assert_eq!(kept(&arguments(), &file, &edited).unwrap(), ADDRESSES);
        assert!(kept(&other, &file, &edited).unwrap_err().to_string().contains("was edited"));
        std::fs::write(&file, text(&ADDRESSES)).unwrap();
        assert_eq!(kept(&other, &file, &text(&ADDRESSES)).unwrap().listen, local(9));
        assert!(!file.exists());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
