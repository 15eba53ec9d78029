//! What may be asked of rollouts, over the channel of the reload thread: asking never blocks.

use super::{Reloader, Request, lock};
use crate::rollout::Plan;
use crate::rollout::control::{
    Answer, Back, Change, Control, GenerationStatus, Pinned, Refusal, RolloutId, RolloutStatus,
};
use std::path::PathBuf;
use std::sync::mpsc::TrySendError;
use tokio::sync::oneshot;

/// What is shown of rollouts and generations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    /// The rollout in progress, else the latest one.
    pub(crate) rollout: Option<RolloutStatus>,
    /// Full generations, newest first.
    pub(crate) generations: Vec<GenerationStatus>,
    /// Versions that were found bad.
    pub(crate) pinned: Vec<Pinned>,
    /// The plan of the configuration in force.
    pub(crate) plan: Plan,
    /// Who is in force, in words.
    pub(crate) in_force: String,
    /// Where all of it is kept.
    pub(crate) state_dir: Option<PathBuf>,
    /// Why it would not outlive the process.
    pub(crate) unkept: Option<String>,
}

impl Reloader {
    /// What is known of rollouts and generations.
    pub(crate) fn shown(&self) -> Shown {
        lock(&self.state.shown).clone()
    }

    fn ask<T: Send + 'static>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Request,
    ) -> Answer<T> {
        let (reply, answer) = oneshot::channel();
        let stopping = || Refusal::Conflict("the process is stopping".to_owned());
        let refusal = match self.requests.try_send(request(reply)) {
            Ok(()) => {
                return Box::pin(async move { answer.await.unwrap_or_else(|_| Err(stopping())) });
            }
            Err(TrySendError::Full(_)) => {
                Refusal::Busy("too many requests wait; try again when they are done".to_owned())
            }
            Err(TrySendError::Disconnected(_)) => stopping(),
        };
        Box::pin(std::future::ready(Err(refusal)))
    }
}

impl Control for Reloader {
    fn start(&self, change: Change, plan: Plan) -> Answer<RolloutId> {
        self.ask(|reply| Request::Start { change, plan: Box::new(plan), reply })
    }

    fn promote(&self, id: RolloutId) -> Answer<RolloutStatus> {
        self.ask(|reply| Request::Promote { id, reply })
    }

    fn back(&self, back: Back) -> Answer<u64> {
        self.ask(|reply| Request::Back { back, reply })
    }

    fn unpin(&self, identity: String) -> Answer<()> {
        self.ask(|reply| Request::Unpin { identity, reply })
    }

    fn plan(&self) -> Plan {
        lock(&self.state.shown).plan.clone()
    }

    fn in_force(&self) -> String {
        lock(&self.state.shown).in_force.clone()
    }

    fn rollout(&self) -> Option<RolloutStatus> {
        lock(&self.state.shown).rollout.clone()
    }

    fn generations(&self) -> Vec<GenerationStatus> {
        lock(&self.state.shown).generations.clone()
    }

    fn pinned(&self) -> Vec<Pinned> {
        lock(&self.state.shown).pinned.clone()
    }
}
