//! Makes as many edits (`x-edits`) or notes (`x-notes`) as a field of the request says, or one note of
//! so many bytes (`x-note-bytes`), and answers how many were taken and why no more.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        let number = |name: &str| request.header(name).and_then(|text| text.parse().ok());
        let [edits, notes, note_bytes] = ["x-edits", "x-notes", "x-note-bytes"].map(number);
        let answer = if let Some(count) = edits {
            taken(count, |_| Ok(request.set_header("x-edited", "1")?))
        } else if let Some(count) = notes {
            taken(count, |n| Ok(request.set_note(&n.to_string(), "")?))
        } else {
            let value = "v".repeat(note_bytes.unwrap_or(1) - 1);
            taken(1, |_| Ok(request.set_note("k", &value)?))
        };
        Ok(LocalResponse::new(200).body(answer).into())
    }
}

fn taken(count: usize, mut take: impl FnMut(usize) -> Result<()>) -> String {
    match (0..count).find_map(|n| take(n).err().map(|error| (n, error))) {
        Some((taken, error)) => format!("{taken}: {error}"),
        None => count.to_string(),
    }
}
