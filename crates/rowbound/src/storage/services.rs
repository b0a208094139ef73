//! The services beyond folders and S3: one table, from which errors, documents and tests derive.
//!
//! In: a URL's scheme. Out: what is known of that service, whether this build has it or not. A service is not in the table if what OpenDAL
//! makes of it cannot be used safely; `docs/storages.md` says which and why.

use std::time::Duration;

use crate::error::{Error, Kind, Result};

/// What is known of a service.
#[derive(Debug, Clone, Copy)]
pub struct ServiceKind {
    /// What stands before `://`; OpenDAL's name of it.
    pub scheme: &'static str,
    /// The Cargo feature that builds it in.
    pub feature: &'static str,
    /// Whether this build has it.
    pub built: bool,
    /// What django-storages calls it.
    pub django: &'static str,
    /// How its URL is written.
    pub url: &'static str,
    /// Options whose values are secrets.
    pub secrets: &'static [&'static str],
    /// The server on which the tests prove it. `None` makes it [experimental](ServiceKind::is_experimental).
    pub proved_on: Option<&'static str>,
    /// What stands between `://` and `?`.
    pub(crate) place: Place,
    /// Requests under way at once, at most. SFTP and FTP take a connection for each.
    pub(crate) at_once: usize,
    /// How far behind the truth a modification time can be beyond a second: the service rounds it down.
    pub(crate) behind: Duration,
    /// It says "not found" of files whose line in a listing it could not read.
    pub(crate) overlooks: bool,
    /// The name that a file is renamed to stands in a URL, in a header, which some servers decode before they take it apart: what follows [`URL_MARKS`]
    /// is lost, and control characters are left out, so that a rename would go astray. Such names are refused.
    pub(crate) strips: bool,
    /// It stores a name with `\` under the one with `/`, leaves out dots at the end of a part of a name, and holds no control characters (Azure: what rclone's tests
    /// saw there). Such names are refused; a row that has one holds the file that it leads to, as on every storage ([`Reading::holds`](crate::binding::Reading::holds)).
    pub(crate) folds: bool,
    /// It can sign a URL for one file and a short time. Where OpenDAL hands out the storage's own login instead, it cannot.
    pub(crate) signs: bool,
}

/// What separates the parts of a URL behind the path.
pub(crate) const URL_MARKS: [char; 3] = [';', '?', '#'];

/// What stands between `://` and `?` in a service's URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A container under this option, then the root within it.
    Container(&'static str),
    /// A host, which makes an `endpoint` behind this, then the root there.
    Host(&'static str),
}

const fn kind(scheme: &'static str, feature: &'static str, built: bool) -> ServiceKind {
    ServiceKind {
        scheme,
        feature,
        built,
        django: "",
        url: "",
        secrets: &[],
        proved_on: None,
        place: Place::Host("https://"),
        at_once: 32,
        behind: Duration::ZERO,
        overlooks: false,
        strips: false,
        folds: false,
        signs: true,
    }
}

impl ServiceKind {
    /// No test runs against a server of this kind. The documents, hints and `attach` say so.
    pub const fn is_experimental(&self) -> bool {
        self.proved_on.is_none()
    }

    /// What `attach` says of a storage on it, if it is experimental.
    pub fn warning(&self, storage: &str) -> Option<String> {
        self.is_experimental().then(|| {
            format!(
                "storage {storage}: {} is experimental: our tests do not run against such a server, so we cannot vouch for what is deleted there; keep a \
                 backup of the files, and try it in shadow mode first (`rowbound attach --shadow`)",
                self.scheme
            )
        })
    }

    /// Its scheme, as a list of services shows it.
    fn listed(&self) -> String {
        format!("{}://{}", self.scheme, if self.is_experimental() { " (experimental)" } else { "" })
    }
}

/// Every service.
pub const SERVICES: [ServiceKind; 5] = [
    ServiceKind {
        django: "`storages.backends.azure_storage.AzureStorage`",
        url: "azblob://CONTAINER/ROOT?endpoint=https://ACCOUNT.blob.core.windows.net&account_name=ACCOUNT&account_key=${AZURE_KEY}",
        secrets: &["account_key", "sas_token", "encryption_key", "encryption_key_sha256"],
        place: Place::Container("container"),
        proved_on: Some("Azurite"),
        folds: true,
        signs: false, // OpenDAL's signed URL holds the `sas_token` of `url`, with all its rights and its whole life
        ..kind("azblob", "service-azblob", cfg!(feature = "service-azblob"))
    },
    ServiceKind {
        django: "`storages.backends.ftp.FTPStorage`",
        url: "ftp://HOST:21/ROOT?user=NAME&password=${FTP_PASSWORD}",
        secrets: &["password"],
        place: Place::Host("ftp://"),
        at_once: 4,
        behind: Duration::from_secs(60), // LIST tells minutes
        overlooks: true,
        ..kind("ftp", "service-ftp", cfg!(feature = "service-ftp"))
    },
    ServiceKind {
        django: "`storages.backends.sftpstorage.SFTPStorage`",
        url: "sftp://NAME@HOST:22/ROOT?key=/home/NAME/.ssh/id_ed25519",
        place: Place::Host("ssh://"),
        at_once: 4,
        proved_on: Some("OpenSSH"),
        ..kind("sftp", "service-sftp", cfg!(feature = "service-sftp"))
    },
    ServiceKind {
        django: "`storages.backends.apache_libcloud.LibCloudStorage` (OpenStack Swift)",
        url: "swift://CONTAINER/ROOT?endpoint=https://HOST/v1/ACCOUNT&token=${SWIFT_TOKEN}",
        secrets: &["token", "temp_url_key"],
        place: Place::Container("container"),
        ..kind("swift", "service-swift", cfg!(feature = "service-swift"))
    },
    ServiceKind {
        django: "(none; WebDAV, Nextcloud, ownCloud)",
        url: "webdav://HOST/ROOT?username=NAME&password=${DAV_PASSWORD}",
        secrets: &["password", "token"],
        at_once: 8,
        strips: true,
        proved_on: Some("WsgiDAV"),
        ..kind("webdav", "service-webdav", cfg!(feature = "service-webdav"))
    },
];

/// The service with this scheme, whether this build has it or not.
pub fn known(scheme: &str) -> Option<&'static ServiceKind> {
    SERVICES.iter().find(|s| s.scheme == scheme)
}

/// The service with this scheme, if this build has it.
///
/// # Errors
/// [`Kind::Config`] says how to get a build that has it, or which services there are.
pub fn find(scheme: &str) -> Result<&'static ServiceKind> {
    match known(scheme) {
        Some(service) if service.built => Ok(service),
        Some(service) => Err(Error::new(Kind::Config, format!("this build has no {scheme} in it"))
            .hint(format!("cargo install rowbound-cli --features {}", service.feature))),
        None => {
            let known: Vec<_> = SERVICES.iter().map(ServiceKind::listed).collect();
            Err(Error::new(Kind::Config, format!("there is no kind of storage that is called {scheme:?}"))
                .hint(format!("known are folder:, s3://, {}; docs/storages.md explains why others are not", known.join(", "))))
        }
    }
}

/// The services as a table in Markdown, for docs/storages.md.
pub fn table() -> String {
    let mut text = "| django-storages | `url` | Cargo feature | proved by a test on |\n| --- | --- | --- | --- |\n".to_owned();
    for s in &SERVICES {
        let proved = s.proved_on.unwrap_or("no server, **experimental**: only `attach` tries it");
        text += &format!("| {} | `{}` | `{}` | {proved} |\n", s.django, s.url, s.feature);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_is_not_built_in_says_how_to_get_it() {
        for service in SERVICES.iter().filter(|s| !s.built) {
            let hint = find(service.scheme).unwrap_err().hint_text().unwrap().to_owned();
            assert_eq!(hint, format!("cargo install rowbound-cli --features {}", service.feature));
        }
        let unknown = find("gopher").unwrap_err();
        assert!(SERVICES.iter().all(|s| unknown.hint_text().unwrap().contains(s.scheme)), "{unknown:?}");
    }

    #[test]
    fn what_no_test_runs_against_is_experimental_and_says_so() {
        for service in &SERVICES {
            let marked = find("gopher").unwrap_err().hint_text().unwrap().contains(&format!("{}:// (experimental)", service.scheme));
            assert_eq!(marked, service.is_experimental(), "{}", service.scheme);
            match service.warning("media") {
                Some(text) => assert!(text.starts_with(&format!("storage media: {} is experimental: ", service.scheme)), "{text}"),
                None => assert!(service.proved_on.is_some(), "{}", service.scheme),
            }
        }
        let experimental: Vec<_> = SERVICES.iter().filter(|s| s.is_experimental()).map(|s| s.scheme).collect();
        assert_eq!(experimental, ["ftp", "swift"]);
    }

    #[test]
    fn every_feature_is_one_of_both_crates() {
        for manifest in [include_str!("../../Cargo.toml"), include_str!("../../../rowbound-cli/Cargo.toml")] {
            for service in &SERVICES {
                assert!(manifest.contains(&format!("\n{} = [", service.feature)), "{}", service.feature);
            }
        }
        for service in &SERVICES {
            assert!(include_str!("../../Cargo.toml").contains(&format!("\n    \"{}\",\n", service.feature)), "all-storages");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let base = std::path::Path::new("/");
        for service in &SERVICES {
            for option in service.secrets {
                let url = format!("{}://a/b?{option}=hush", service.scheme);
                let place = crate::plan::Location::parse(&url, base).unwrap();
                assert!(!crate::StoragePlan::at("default", place).url().contains("hush"), "{url}");
            }
        }
    }
}
