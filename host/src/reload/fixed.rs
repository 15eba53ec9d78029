//! Settings that a running process keeps: changing one needs a restart, and is refused with a message
//! that says so.
//!
//! Threads, descriptors and directories are set up from them once. Everything else is applied.

use super::problems::Problems;
use crate::config::{Config, Loaded};

/// What of `loaded` a process that started with `running` cannot apply.
pub(super) fn check(running: &Config, loaded: &Loaded) -> Result<(), Problems> {
    let (old, new) = (&running.runtime, &loaded.config.runtime);
    let changes = [
        ("runtime.workers", old.workers != new.workers),
        ("runtime.cache_dir", old.cache_dir != new.cache_dir),
        ("runtime.connections_max", old.connections_max != new.connections_max),
        ("runtime.compile", old.compile != new.compile),
        ("admin.address", running.admin.address != loaded.config.admin.address),
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
        parse(&text, "p.toml", Path::new("/"), &|_| None).unwrap()
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
        let other = loaded("[runtime]\ndrain_timeout = \"9s\"\nwatch = false");
        check(&running, &other).unwrap();
    }
}
