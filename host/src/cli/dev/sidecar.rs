//! The sidecar that a filter is developed in: its file, the app behind it, and asking it to take what
//! is new.
//!
//! It is the sidecar of `pillion run`. Its file belongs to the author once it is written.

use super::super::ask::{Admin, Body};
use super::super::demo_app;
use super::super::local::{Addresses, Wanted, free};
use crate::config;
use anyhow::{Context, anyhow, bail};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What to do about a file that cannot be read.
const HELP: &str = "remove it, and `pillion dev` writes it anew";

/// The configuration file, in the project.
pub(super) const FILE_NAME: &str = "dev.toml";
/// For a reload. The filter was compiled before, so that it only has to be mapped.
const RELOAD_TIME: Duration = Duration::from_secs(60);

/// The file of the project, written if there is none. `table` is that of the filter called `name`.
pub(super) fn file(
    project: &Path,
    wanted: &Wanted,
    name: &str,
    table: &str,
) -> anyhow::Result<PathBuf> {
    let file = project.join(FILE_NAME);
    if !file.exists() {
        let addresses = wanted.or_default();
        drop(free(addresses.listen, "--listen", "the sidecar")?);
        drop(free(addresses.admin, "--admin", "its admin interface")?);
        std::fs::write(&file, text(&addresses, name, table))
            .with_context(|| format!("failed to write `{}`", file.display()))?;
        return Ok(file);
    }
    let loaded = config::load(&file, HELP).map_err(|problems| anyhow!("{problems}"))?;
    let there = Addresses::of(&loaded.config).ok();
    if !there.map_or(*wanted == Wanted::default(), |there| wanted.agrees_with(&there)) {
        bail!(
            "`{}` is there and has other addresses\nhelp: change them in it, or remove it",
            file.display()
        );
    }
    Ok(file)
}

/// Starts the app that answers with what reached it, unless the file names another one. Where it
/// listens, and whether it is the one that is built in.
pub(super) fn start_app(file: &Path) -> anyhow::Result<String> {
    let loaded = config::load(file, HELP).map_err(|problems| anyhow!("{problems}"))?;
    let Ok(Addresses { app, .. }) = Addresses::of(&loaded.config) else {
        return Ok("as the file says".to_owned());
    };
    match TcpListener::bind(app) {
        Ok(socket) => {
            demo_app::spawn(socket).context("failed to start the app")?;
            Ok(format!("http://{app}   built in: it answers with what reached it"))
        }
        // Not an address of this machine, or somebody's app is there.
        Err(_) => Ok(format!("http://{app}   yours")),
    }
}

/// Has the sidecar take what is in the file and in the component now.
pub(super) fn reload(admin: SocketAddr) -> anyhow::Result<()> {
    let answer = Admin::at(admin).ask("POST", "/reload", Body::NONE, RELOAD_TIME)?;
    if answer.status == 200 { Ok(()) } else { bail!("{}", answer.body.trim_end().to_owned()) }
}

fn text(addresses: &Addresses, name: &str, table: &str) -> String {
    let Addresses { app, listen, admin } = addresses;
    format!(
        r#"# The sidecar of `pillion dev`. Save a change, and the next request is served by it.

[admin]
address = "{admin}"

# `pillion dev` watches the project, and says when there is something new.
[runtime]
watch = false

[[listener]]
name = "inbound"
address = "{listen}"

  [[listener.route]]
  chain = ["{name}"]
  upstream = "app"

# While nothing else listens there, an app that answers with what reached it.
[upstream.app]
endpoints = ["{app}"]

# The component is put here once it builds and its cases pass.
{table}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::local::local;
    use super::*;

    #[test]
    fn the_file_is_a_configuration_with_these_addresses() {
        let addresses = Addresses { app: local(1), listen: local(2), admin: local(3) };
        let table = "[filter.x]\nsource = \"./target/x.wasm\"";
        let written = text(&addresses, "x", table);
        let loaded = config::parse(&written, "dev.toml", Path::new("/"), &|_| None).unwrap();
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        assert_eq!(Addresses::of(&loaded.config).unwrap(), addresses);
        assert!(!loaded.config.runtime.watch);
    }

    #[test]
    fn a_file_that_is_there_stays_and_decides() {
        let project = std::env::temp_dir().join(format!("pillion-dev-{}", std::process::id()));
        std::fs::create_dir_all(&project).unwrap();
        let wanted = Wanted { app: Some(local(1)), listen: Some(local(0)), admin: Some(local(0)) };
        let table = "[filter.x]\nsource = \"./target/x.wasm\"";
        let written = file(&project, &wanted, "x", table).unwrap();
        let before = std::fs::read_to_string(&written).unwrap();
        assert_eq!(file(&project, &wanted, "y", "nonsense").unwrap(), written);
        assert_eq!(file(&project, &Wanted::default(), "y", "nonsense").unwrap(), written);
        assert_eq!(std::fs::read_to_string(&written).unwrap(), before);
        let other = Wanted { app: Some(local(9)), ..wanted };
        let error = file(&project, &other, "x", table).unwrap_err().to_string();
        assert!(error.ends_with("has other addresses\nhelp: change them in it, or remove it"));
        std::fs::remove_dir_all(&project).unwrap();
    }
}
