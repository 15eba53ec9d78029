//! Good or bad as its configuration says, or a mark in its own bytes, which a test replaces to have
//! another component; and tells with each request and response which version it is.

use pillion_sdk::prelude::*;
use std::hint::black_box;

/// Its end is a mood, in four letters, and a number.
static MARK: [u8; 30] = *b"mark of this guest:good-000000";
/// Where the mood begins in it.
const MOOD_AT: usize = 19;
/// Bytes leaked with each request.
const LEAK_BYTES: usize = 256 << 10;
/// Turns of a loop that takes far longer than anything else here.
const SLOW_TURNS: u32 = 8_000_000;

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    version: String,
    mood: Option<String>,
}

struct Guest {
    /// Component, configuration and mood.
    version: String,
    mood: Mood,
}

#[derive(Clone, Copy)]
enum Mood {
    Good,
    Trap,
    Spin,
    Leak,
    Reply,
    Slow,
}

#[filter]
impl Filter for Guest {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        let mark = String::from_utf8_lossy(&black_box(&MARK)[MOOD_AT..]).into_owned();
        let (marked, number) = mark.split_once('-').unwrap_or((&mark, ""));
        let mood = config.mood.as_deref().unwrap_or(marked);
        let known = match mood {
            "good" => Mood::Good,
            "trap" => Mood::Trap,
            "spin" => Mood::Spin,
            "leak" => Mood::Leak,
            "repl" => Mood::Reply,
            "slow" => Mood::Slow,
            other => return Err(ConfigError::at("mood", format!("`{other}` is none"))),
        };
        Ok(Guest { version: format!("{number}/{}/{mood}", config.version), mood: known })
    }

    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        request.set_header("x-version", &self.version)?;
        match self.mood {
            Mood::Good => {}
            Mood::Trap => panic!("as it was told"),
            Mood::Spin => turn(u32::MAX),
            Mood::Leak => {
                black_box(vec![1_u8; LEAK_BYTES].leak());
            }
            Mood::Reply => {
                let response = LocalResponse::new(500).header("x-version", &*self.version);
                return Ok(response.into());
            }
            Mood::Slow => turn(SLOW_TURNS),
        }
        Ok(Decision::Proceed)
    }

    fn on_response(&mut self, _: &Request, response: &mut Response) -> Result<Decision> {
        response.set_header("x-version", &self.version)?;
        Ok(Decision::Proceed)
    }
}

fn turn(turns: u32) {
    for turn in 0..turns {
        black_box(turn);
    }
}
