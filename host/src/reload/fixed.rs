//! Settings that a running process keeps: changing one needs a restart, and is refused with a message
//! that says so.
//!
//! Threads, descriptors and directories are set up from them once. Everything else is applied.

use super::problems::Problems;
use crate::config::{Config, Loaded};

/// What of `loaded` a process that started with `running` cannot apply.
pub(super) fn check(running: &Config, loaded: &Loaded) -> Result<(), Problems> {
    let (old, new) = (&running.runtime, &loaded.config.runtime);
    let (old_admin, new_admin) = (&running.admin, &loaded.config.admin);
    let state_dirs = (&running.rollout.state_dir, &loaded.config.rollout.state_dir);
    let changes = [
        ("runtime.workers", old.workers != new.workers),
        ("runtime.cache_dir", old.cache_dir != new.cache_dir),
        ("runtime.connections_max", old.connections_max != new.connections_max),
        ("runtime.compile", old.compile != new.compile),
        ("admin.tcp", old_admin.tcp != new_admin.tcp),
        ("admin.address", old_admin.address != new_admin.address),
        ("admin.socket", old_admin.socket != new_admin.socket),
        ("admin.token", old_admin.token != new_admin.token),
        ("rollout.state_dir", state_dirs.0 != state_dirs.1),
        ("access_log.destination", running.access_log != loaded.config.access_log),
    ];
    let mut problems = Problems::default();
    for (key, changed) in changes {
        if changed {
            let message = format!("`{key}` cannot change while the process runs");
            let mut problem = loaded.locate(key, message);
            problem.help = Some("restart Pillion to use it, or take the change back".to_owned());
            problems.push(problem);
        }
    }
    problems.or(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use std::path::Path;

    fn loaded(head: &str) -> Loaded {
        let text = format!(
            "{head}\n[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\n\
             route = [{{ upstream = \"u\" }}]\n[upstream.u]\nendpoints = [\"127.0.0.1:2\"]\n"
        );
        parse(&text, "p.toml", Path::new("/"), &|_| Some("t0p-s3cret-and-long".into())).unwrap()
    }

    #[test]
    fn what_needs_a_restart_is_refused_at_its_line() {
        let running = loaded("").config;
        for (head, start) in [
            ("[runtime]\nworkers = 2", "p.toml:2:11: error: `runtime.workers` cannot change"),
            ("[runtime]\ncache_dir = \"c\"", "p.toml:2:13: error: `runtime.cache_dir` cannot"),
            ("[runtime]\nconnections_max = 9", "p.toml:2:19: error: `runtime.connections_max`"),
            ("[admin]\naddress = \"127.0.0.1:9\"", "p.toml:2:11: error: `admin.address` cannot"),
            ("[access_log]\ndestination = \"./l\"", "p.toml:2:15: error: `access_log.destination`"),
            (
                "[admin]\ntcp = false\nsocket = \"admin.sock\"",
                "p.toml:2:7: error: `admin.tcp` cannot change while the process runs\n2 | tcp = \
                 false\n          ^^^^^\nhelp: restart Pillion to use it, or take the change \
                 back\n\np.toml:3:10: error: `admin.socket` cannot change",
            ),
            ("[admin]\ntoken = \"${TOKEN}\"", "p.toml:2:9: error: `admin.token` cannot change"),
            ("[rollout]\nstate_dir = \"s\"", "p.toml:2:13: error: `rollout.state_dir` cannot"),
            ("[runtime]\ncompile = { time = \"9s\" }", "p.toml:2:1: error: `runtime.compile`"),
        ] {
            let shown = check(&running, &loaded(head)).unwrap_err().to_string();
            assert!(shown.starts_with(start), "{shown}");
            assert!(shown.contains("help: restart Pillion"), "{shown}");
        }
    }

    #[test]
    fn the_rest_may_change() {
        let running = loaded("").config;
        let other = loaded(
            "[runtime]\ndrain_timeout = \"9s\"\nwatch = false\n[rollout]\nsteps = [\"full\"]",
        );
        check(&running, &other).unwrap();
    }
}
