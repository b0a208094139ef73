//! One path: exactly this one, or a refusal.

use opendal::{EntryMode, ErrorKind, Metadata, raw};

use super::{Inner, wire::Failure};
use crate::{
    clock,
    storage::{FileVersion, Since, services::Place},
};

/// Why a file's time says nothing where files are written by name: `rsync -t`, `sftp put -p`, FTP's MFMT and Nextcloud's X-OC-MTime set it.
const SETTABLE: &str = "its modification time can be set by whoever uploads";

/// With this among its metadata an empty blob stands for a folder: accounts with a hierarchical namespace (Data Lake Storage) and Hadoop write such.
const FOLDER_MARK: &str = "hdi_isfolder";

/// What lies under a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PathStat {
    Missing,
    File(FileVersion),
    /// What must not be deleted.
    Other(&'static str),
}

/// What is known of a file besides its size and time, in [`FileVersion::version`]. Conditions are made of it.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Version {
    pub etag: Option<String>,
    pub version: Option<String>,
    modified: String,
}

impl Version {
    pub(super) fn of(seen: &FileVersion) -> Option<Version> {
        serde_json::from_str(&seen.version).ok()
    }
}

/// Whether OpenDAL would send exactly this path. If not, the answer says why it must never be sent.
pub(super) fn exact(path: &str) -> Result<(), &'static str> {
    if path.split('/').any(|part| matches!(part, "." | "..")) {
        return Err("it holds a `.` or `..` segment: the service would take another name for it");
    }
    if raw::normalize_path(path) != path || path.ends_with('/') {
        return Err("it begins or ends with a blank, or holds `//`: the service's library would take another name for it");
    }
    Ok(())
}

/// Whether it is the same file after a rename: an ETag may depend on the name, size and time do not.
pub(super) fn alike(one: &FileVersion, other: &FileVersion) -> bool {
    one.size == other.size && one.modified == other.modified
}

impl Inner {
    /// What lies under a path. A caller that believes an absence proves the storage afterwards.
    pub(super) async fn stat(&self, path: &str) -> Result<PathStat, Failure> {
        if let Err(why) = exact(path) {
            return Err(Failure::new(ErrorKind::ConfigInvalid, why));
        }
        match self.wire.call(|| self.wire.op.stat(path)).await {
            Ok(meta) => self.seen(&meta),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                if self.kind.overlooks {
                    // Listing says so where it cannot read a line; looking passes over it.
                    let folder = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
                    if self.entries(&folder).await?.iter().any(|(entry, _)| entry == path) {
                        return Err(Failure::new(ErrorKind::Unexpected, "the service lists the file but does not find it"));
                    }
                }
                Ok(PathStat::Missing)
            }
            Err(e) => Err(e),
        }
    }

    fn seen(&self, meta: &Metadata) -> Result<PathStat, Failure> {
        match meta.mode() {
            EntryMode::FILE => {}
            EntryMode::DIR => return Ok(PathStat::Other("it is a folder")),
            EntryMode::Unknown => return Ok(PathStat::Other("it is neither a file nor a folder")),
        }
        if meta.user_metadata().is_some_and(|own| own.get(FOLDER_MARK).is_some_and(|mark| mark.eq_ignore_ascii_case("true"))) {
            return Ok(PathStat::Other("it stands for a folder"));
        }
        let Some(modified) = meta.last_modified() else {
            return Err(Failure::new(ErrorKind::Unsupported, "the service does not tell when the file was modified"));
        };
        let modified = modified.into_inner();
        let version =
            Version { etag: meta.etag().map(str::to_owned), version: meta.version().map(str::to_owned), modified: modified.to_string() };
        // The latest moment at which it can have been: an upload must not look older than it is.
        let latest = clock::after(modified, self.kind.behind);
        let seen = FileVersion::new(meta.content_length(), latest, serde_json::to_string(&version).expect("a version is JSON"));
        Ok(PathStat::File(match self.kind.place {
            Place::Host(_) => FileVersion { since: Since::Unknown(SETTABLE), ..seen },
            _ => seen,
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::FileName;

    #[test]
    fn names_that_the_library_would_change_are_refused() {
        for name in ["a ", " a", "a\u{a0}", "\u{3000}a", "a\n", "\ta", "d/a ", " d/a", "a/", "/a", "a//b", "", "/", "a\u{2028}", "\u{85}a"]
        {
            assert!(exact(name).is_err(), "{name:?}");
        }
        for name in ["a", "d /a", "d/ a", "a b", "a\nb", "...", "~", "*", "a\\b", "%2e%2e/a", "\u{200b}", "\u{feff}a"] {
            assert_eq!(exact(name), Ok(()), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_is_sent_as_it_is(name in "[ \\t\u{a0}a/.\u{2003}\\PC]{1,12}") {
            if let Ok(name) = FileName::parse(&name)
                && exact(name.as_str()).is_ok()
            {
                // OpenDAL's own function, which each of its operations calls first.
                prop_assert_eq!(raw::normalize_path(name.as_str()), name.as_str());
            }
        }

        #[test]
        fn what_passes_lies_where_it_was_written(names in proptest::collection::hash_set("[ \u{a0}ab/.]{1,6}", 1..12)) {
            let names: Vec<String> = names.into_iter().filter(|n| FileName::parse(n).is_ok() && exact(n).is_ok()).collect();
            let listed: Vec<String> = tokio::runtime::Runtime::new().unwrap().block_on(async {
                let memory = opendal::Operator::new(opendal::services::Memory::default()).unwrap();
                for name in &names {
                    memory.write(name, name.clone()).await.unwrap();
                }
                let entries = memory.list_with("").recursive(true).await.unwrap();
                let files = entries.into_iter().filter(|e| e.metadata().is_file());
                files.map(|e| e.path().to_owned()).collect()
            });
            let mut wanted = names.clone();
            let mut listed = listed;
            wanted.sort();
            listed.sort();
            prop_assert_eq!(listed, wanted);
        }
    }
}
