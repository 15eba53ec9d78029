//! Waiting for events, with an upper bound that only a defect reaches and that then says what was
//! waited for. Nothing here measures time.

use std::time::Duration;

/// Far more than anything takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The output of `event`.
///
/// # Panics
/// When it takes longer than [`PATIENCE`].
pub async fn within<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, event).await {
        Ok(output) => output,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// Asks until there is an answer; for states that announce themselves in no other way.
///
/// # Panics
/// When it takes longer than [`PATIENCE`].
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        let mut turn = tokio::time::interval(Duration::from_millis(10));
        loop {
            turn.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    })
    .await
}
