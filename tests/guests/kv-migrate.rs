//! Counts requests in `kv` and sets `x-count` on the response as `kv-counter` does, in entries of
//! another form: `count=3` where that has the number 3. Asked for `x-keys`, it lists the keys where
//! that traps.

use pillion_sdk::prelude::*;

/// What `migrate` does.
#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Migrate {
    /// What it should.
    #[default]
    Work,
    Fail,
    Panic,
    Spin,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    migrate: Migrate,
}

struct Guest {
    migrate: Migrate,
}

#[filter]
impl Filter for Guest {
    type Config = Config;
    const STATE_VERSION: u32 = 1;

    fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Guest { migrate: config.migrate })
    }

    fn migrate(&mut self, from: u32) -> Result<()> {
        match self.migrate {
            Migrate::Work => {}
            Migrate::Fail => return Err(Error::new("told to fail")),
            Migrate::Panic => panic!("told to panic"),
            Migrate::Spin => loop {
                std::hint::spin_loop();
            },
        }
        let (mut entries, mut after) = (0, None);
        loop {
            let keys = kv::keys(after.as_deref());
            let Some(last) = keys.last() else { break };
            after = Some(last.clone());
            for key in &keys {
                let number = kv::get(key).unwrap_or_default();
                let number = String::from_utf8_lossy(&number);
                kv::set(key, format!("count={number}").as_bytes(), None)?;
                entries += 1;
            }
        }
        log::info!("{entries} entries migrated from {from}");
        Ok(())
    }

    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        if request.header("x-keys").is_some() {
            let keys = kv::keys(None);
            request.set_header("x-keys", &keys.join(","))?;
        }
        Ok(Decision::Proceed)
    }

    fn on_response(&mut self, _: &Request, response: &mut Response) -> Result<Decision> {
        let entry = kv::get("requests").unwrap_or_else(|| b"count=0".to_vec());
        let entry = String::from_utf8_lossy(&entry);
        let count = entry.strip_prefix("count=").and_then(|count| count.parse::<u64>().ok());
        let Some(count) = count else {
            return Err(Error::new(format!("`{entry}` is of another form")));
        };
        let count = count + 1;
        kv::set("requests", format!("count={count}").as_bytes(), None)?;
        response.set_header("x-count", &count.to_string())?;
        Ok(Decision::Proceed)
    }
}
