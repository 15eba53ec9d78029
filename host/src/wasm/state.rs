//! State over a swap: which version of it a filter works with, and the one call in which a version
//! takes over what an older form left.
//!
//! Runs guest code, and belongs to the build of a filter version, off the workers. What is kept where
//! is the matter of `capability::kv`.

use super::component::{FilterCode, LoadError};
use super::engine::Presence;
use super::instance::{Form, Instance};
use super::linker::link;
use super::prepared::{Granted, Shared, load_error};
use crate::capability::kv::{Claim, Origin};
use crate::chain::Hook;
use std::sync::Arc;

/// The instances here are no worker's.
const NO_WORKER: usize = usize::MAX;

/// The version of a filter's state; 0 where it exports none. `granted` has a map apart: what the
/// guest writes there is forgotten.
pub(super) fn version(
    code: &FilterCode,
    granted: &Granted,
    shared: &Arc<Shared>,
    presence: &Presence,
) -> Result<u32, LoadError> {
    if !code.hooks().has(Hook::StateVersion) {
        return Ok(0);
    }
    let pre = link(&shared.name, code, granted)?;
    let version = || {
        let form = Form::choose(code, pre, granted, shared, presence)?;
        Instance::start(code, &form, shared, presence, NO_WORKER)?.state_version(presence)
    };
    version().map_err(|error| load_error(&shared.name, error))
}

/// Makes the claimed map one in the form of this version, which `form` is linked with. The instance
/// that does it serves nothing: what it has read before is in the older form.
pub(super) fn take_over(
    claim: &Claim,
    code: &FilterCode,
    form: &Form,
    shared: &Arc<Shared>,
    presence: &Presence,
) -> Result<(), LoadError> {
    let (filter, version) = (&*shared.name, &*shared.version);
    let to = claim.version();
    let from = match claim.origin() {
        Origin::InForce => return Ok(()),
        Origin::Kept => {
            tracing::info!(
                filter,
                version,
                state_version = to,
                "state is taken up where it was left"
            );
            return Ok(());
        }
        Origin::Empty(newer) => {
            tracing::warn!(
                filter,
                version,
                state_version = to,
                running_state_version = newer,
                "state begins empty: that of the version that runs has a newer form"
            );
            return Ok(());
        }
        Origin::CopyOf(from) => from,
    };
    let migrate = || {
        let mut instance = Instance::start(code, form, shared, presence, NO_WORKER)?;
        instance.configure(presence)?;
        instance.migrate(presence, from)
    };
    let migrated = migrate().map_err(|error| load_error(filter, error))?;
    migrated.map_err(|message| LoadError::NotMigrated {
        name: filter.to_owned(),
        from,
        to,
        message,
    })?;
    tracing::info!(filter, version, from, state_version = to, "state migrated");
    Ok(())
}
