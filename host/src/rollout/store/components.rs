//! Components beside the state, one file for each content: `components/<hash>.wasm`.
//!
//! A file is written whole before a state names it, checked whenever it is read, and removed when no
//! state names it any more. Knows nothing of what a component is.

use super::Fault;
use crate::private::{self, TEMPORARY_SUFFIX, failed};
use crate::rollout::control::UPLOAD_BYTES_MAX;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Bytes of a component; as for one in a file.
pub const COMPONENT_BYTES_MAX: usize = UPLOAD_BYTES_MAX;

/// Name of the directory inside the state directory.
pub(super) const COMPONENTS: &str = "components";
const SUFFIX: &str = ".wasm";

/// Why a kept component cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// Somebody has removed it.
    #[error("the kept component `{}` is not there any more", .0.display())]
    Absent(PathBuf),
    /// It is not what was kept.
    #[error("the kept component `{}` is damaged: its content does not match its name", .0.display())]
    Damaged(PathBuf),
    /// It cannot be read.
    #[error(transparent)]
    Files(#[from] private::Error),
}

/// The directory of components.
#[derive(Debug)]
pub(super) struct Components(PathBuf);

impl Components {
    pub(super) fn open(state_directory: &Path) -> Result<Self, private::Error> {
        let directory = state_directory.join(COMPONENTS);
        private::make_directory(&directory)?;
        Ok(Components(directory))
    }

    fn path(&self, hash: &blake3::Hash) -> PathBuf {
        self.0.join(format!("{}{SUFFIX}", hash.to_hex()))
    }

    pub(super) fn has(&self, hash: &blake3::Hash) -> bool {
        std::fs::symlink_metadata(self.path(hash)).is_ok_and(|known| known.is_file())
    }

    pub(super) fn read(&self, hash: &blake3::Hash) -> Result<Vec<u8>, ComponentError> {
        let path = self.path(hash);
        let Some(content) = private::read(&path, COMPONENT_BYTES_MAX)? else {
            return Err(ComponentError::Absent(path));
        };
        if blake3::hash(&content) == *hash {
            Ok(content)
        } else {
            Err(ComponentError::Damaged(path))
        }
    }

    /// Writes a component, unless it is there, undamaged.
    pub(super) fn put(&self, content: &[u8]) -> Result<(), Fault> {
        if content.len() > COMPONENT_BYTES_MAX {
            return Err(Fault::ComponentTooLarge(content.len()));
        }
        let hash = blake3::hash(content);
        if self.read(&hash).is_err() {
            private::replace(&self.path(&hash), content)?;
        }
        Ok(())
    }

    /// Removes what is not `named`, and what a killed process had not finished. Files of other names
    /// are not ours.
    pub(super) fn remove_others(
        &self,
        named: &HashSet<blake3::Hash>,
    ) -> Result<(), private::Error> {
        let cannot_list = || failed("list the directory", &self.0);
        for item in std::fs::read_dir(&self.0).map_err(cannot_list())? {
            let name = item.map_err(cannot_list())?.file_name();
            let surplus = name.to_str().and_then(content_of).is_some_and(|content| match content {
                Content::Whole(hash) => !named.contains(&hash),
                Content::Unfinished => true,
            });
            if surplus {
                let path = self.0.join(name);
                std::fs::remove_file(&path).map_err(failed("remove the component", &path))?;
            }
        }
        Ok(())
    }
}

/// What a file of ours is.
enum Content {
    Whole(blake3::Hash),
    Unfinished,
}

fn content_of(name: &str) -> Option<Content> {
    let (digits, rest) = name.split_at_checked(2 * blake3::OUT_LEN)?;
    let hash = blake3::Hash::from_hex(digits).ok()?;
    match rest.strip_prefix(SUFFIX)? {
        "" => Some(Content::Whole(hash)),
        rest if rest.ends_with(TEMPORARY_SUFFIX) => Some(Content::Unfinished),
        _ => None,
    }
}
