//! Writes a folder whole or not at all: everything goes into a folder beside it, which then takes its
//! name. Knows nothing of what is written.

use anyhow::{Context, bail};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A file to be written, at a path relative to the folder.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) text: String,
}

/// Makes the folder `place` with these files.
///
/// # Errors
/// Something is there already, or cannot be written; then nothing is left behind.
pub(super) fn create(place: &Path, files: &[File]) -> anyhow::Result<()> {
    // A link that leads nowhere is something, too.
    if fs::symlink_metadata(place).is_ok() {
        bail!("`{}` exists already\nhelp: choose another name, or remove it", place.display());
    }
    let unfinished = Unfinished::write(place, files, "")?;
    fs::rename(&unfinished.0, place)
        .with_context(|| format!("failed to create `{}`", place.display()))
}

/// Puts the files below `folder` in place of what is there. Their paths are relative to `root`.
///
/// # Errors
/// Something cannot be written; then what was there is still there.
pub(super) fn replace(root: &Path, folder: &str, files: &[File]) -> anyhow::Result<()> {
    let place = root.join(folder);
    let failed = || format!("failed to replace `{}`", place.display());
    let unfinished = Unfinished::write(&place, files, folder)?;
    let old = beside(&place, "old");
    fs::rename(&place, &old).with_context(failed)?;
    if let Err(error) = fs::rename(&unfinished.0, &place) {
        fs::rename(&old, &place).with_context(failed)?;
        return Err(error).with_context(failed);
    }
    fs::remove_dir_all(&old).with_context(|| format!("failed to remove `{}`", old.display()))
}

/// A folder that has not got its name yet; removed when it is dropped, if it is still there.
struct Unfinished(PathBuf);

impl Unfinished {
    /// Writes the files, without the part `prefix` of their paths, beside `place`.
    fn write(place: &Path, files: &[File], prefix: &str) -> anyhow::Result<Self> {
        let unfinished = Unfinished(beside(place, "new"));
        fs::create_dir(&unfinished.0)
            .with_context(|| format!("failed to create a folder beside `{}`", place.display()))?;
        for file in files {
            let path = Path::new(&file.path).strip_prefix(prefix)?;
            write(&unfinished.0.join(path), &file.text)
                .with_context(|| format!("failed to write `{}`", place.join(path).display()))?;
        }
        Ok(unfinished)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After it was renamed there is nothing.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text)
}

/// A name that nobody else uses, in the same folder.
fn beside(place: &Path, what: &str) -> PathBuf {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    place.with_file_name(format!(".{name}.{what}-{}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let name = format!("pillion-files-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Directory(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_folder_is_written_whole() {
        let directory = Directory::new("whole");
        let place = directory.0.join("a");
        create(&place, &[file("x", "1"), file("y/z", "2")]).unwrap();
        assert_eq!(fs::read_to_string(place.join("y/z")).unwrap(), "2");
        assert_eq!(directory.names(), ["a"]);
    }

    #[test]
    fn what_exists_is_refused_and_stays() {
        let directory = Directory::new("exists");
        let place = directory.0.join("a");
        fs::create_dir(&place).unwrap();
        let error = create(&place, &[file("x", "1")]).unwrap_err().to_string();
        assert!(error.ends_with("exists already\nhelp: choose another name, or remove it"));
        assert!(fs::read_dir(&place).unwrap().next().is_none());
    }

    #[test]
    fn after_a_failure_nothing_is_left() {
        let directory = Directory::new("failure");
        // The second file would be below the first.
        let files = [file("x", "1"), file("x/y", "2")];
        let error = create(&directory.0.join("a"), &files).unwrap_err();
        assert!(error.to_string().starts_with("failed to write `"), "{error}");
        assert!(directory.names().is_empty());

        create(&directory.0.join("a"), &[file("b/x", "old")]).unwrap();
        let files = [file("b/x", "new"), file("b/x/y", "2")];
        replace(&directory.0.join("a"), "b", &files).unwrap_err();
        assert_eq!(fs::read_to_string(directory.0.join("a/b/x")).unwrap(), "old");
        assert_eq!(directory.names(), ["a"]);
    }

    #[test]
    fn a_folder_is_replaced_whole() {
        let directory = Directory::new("replaced");
        let root = directory.0.join("a");
        create(&root, &[file("b/c/old", "1"), file("d", "2")]).unwrap();
        replace(&root, "b/c", &[file("b/c/new", "3")]).unwrap();
        assert_eq!(fs::read_to_string(root.join("b/c/new")).unwrap(), "3");
        assert!(!root.join("b/c/old").exists() && root.join("d").exists());
        assert_eq!(fs::read_dir(root.join("b")).unwrap().count(), 1);
    }
}
