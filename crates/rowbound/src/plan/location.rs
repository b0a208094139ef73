//! Where a storage's files lie.
//!
//! In: a storage's `url`. Out: a [`Location`], parsed without IO. Promise: what could be a secret is never shown.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, Kind, Result},
    name::Names,
};

/// Where a storage's files lie.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// A folder of a local or mounted file system.
    Folder(PathBuf),
    /// A bucket of S3 or of a service that speaks its protocol, or what lies beneath a prefix in it.
    S3(Bucket),
    /// A service that is reached through OpenDAL.
    Service(Service),
    /// The memory of this process, for tests: storages of one name share their files.
    Memory(String),
}

/// A place in S3, or in a service that speaks its protocol.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bucket {
    /// The bucket.
    pub bucket: String,
    /// What every key begins with: empty, or it ends with `/`.
    pub prefix: String,
    /// The region; `None` takes it from the environment or the profile.
    pub region: Option<String>,
    /// The service's address; `None` means AWS.
    pub endpoint: Option<String>,
    /// Whether the bucket stands in the path instead of the host. Default: with an endpoint of one's own, yes.
    pub path_style: Option<bool>,
    /// The profile in the shared configuration files; `None` takes `AWS_PROFILE` or the default one.
    pub profile: Option<String>,
}

/// A service that is reached through OpenDAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// OpenDAL's name of the service: `azblob`, `sftp`, `webdav`, ...
    pub scheme: String,
    /// What stands between `://` and `?`, not decoded: host or container, then the path.
    pub place: String,
    /// The options after `?`, decoded: those that the service has in OpenDAL.
    pub options: BTreeMap<String, String>,
}

impl Location {
    /// Reads a storage's `url`. A relative folder is taken from `base`.
    ///
    /// # Errors
    /// [`Kind::Config`] names what is wrong with it.
    pub fn parse(text: &str, base: &Path) -> Result<Self> {
        let bad = |why: &str| Error::new(Kind::Config, format!("`url` {why}")).with("url", format_args!("{:?}", shown(text)));
        let known = "write folder:path, s3://bucket/prefix, or a service's: docs/storages.md lists them";
        let (scheme, rest) = text.split_once(':').ok_or_else(|| bad("names no kind of storage").hint(known))?;
        if rest.is_empty() {
            return Err(bad("names no place").hint(known));
        }
        match (scheme, rest.strip_prefix("//")) {
            ("folder", inner) => Ok(Location::Folder(base.join(inner.filter(|p| p.starts_with('/')).unwrap_or(rest)))),
            ("memory", inner) => Ok(Location::Memory(inner.unwrap_or(rest).to_owned())),
            ("s3", Some(inner)) => Bucket::parse(inner).map(Location::S3).map_err(|(why, hint)| bad(&why).hint(hint)),
            (_, Some(inner))
                if !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c)) =>
            {
                let (place, query) = inner.split_once('?').unwrap_or((inner, ""));
                Ok(Location::Service(Service { scheme: scheme.to_owned(), place: place.to_owned(), options: options(query).collect() }))
            }
            _ => Err(bad("names no kind of storage that this version knows").hint(known)),
        }
    }

    /// What it takes for a name.
    pub fn names(&self) -> Names {
        match self {
            Location::S3(_) => Names::Keys,
            Location::Folder(_) | Location::Service(_) | Location::Memory(_) => Names::Paths,
        }
    }

    /// The `url` that [`Location::parse`] reads as this; it may hold secrets.
    pub fn to_url(&self) -> String {
        let query = |options: Vec<(&str, &str)>| {
            let pairs: Vec<_> =
                options.iter().map(|(key, value)| format!("{key}={}", percent_encoding::utf8_percent_encode(value, OPTION))).collect();
            if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
        };
        match self {
            Location::Folder(path) => format!("folder:{}", path.display()),
            Location::S3(at) => {
                let path_style = at.path_style.map(|yes| yes.to_string());
                let given = [("region", &at.region), ("endpoint", &at.endpoint), ("path_style", &path_style), ("profile", &at.profile)];
                let options = given.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?))).collect();
                format!("s3://{}/{}{}", at.bucket, percent_encoding::utf8_percent_encode(&at.prefix, PREFIX), query(options))
            }
            Location::Service(at) => {
                let options = at.options.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
                format!("{}://{}{}", at.scheme, at.place, query(options))
            }
            Location::Memory(name) => format!("memory:{name}"),
        }
    }

    /// The folder of `outer` in which this place would lie if both are at one service: what this one's prefix has more. Bucket and address say nothing here,
    /// because one bucket may have several names; whether it is so, the marker tells.
    pub(crate) fn folder_in(&self, outer: &Location) -> Option<String> {
        let rest = match (self, outer) {
            (Location::S3(inner), Location::S3(outer)) => inner.prefix.strip_prefix(&outer.prefix)?.to_owned(),
            (Location::Service(inner), Location::Service(outer)) if inner.scheme == outer.scheme => {
                let root = |at: &Service| {
                    let path = at.place.split_once('/').map_or("", |(_, path)| path);
                    let path = at.options.get("root").map_or(path, String::as_str);
                    let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy().trim_matches('/').to_owned();
                    if path.is_empty() { path } else { format!("{path}/") }
                };
                root(inner).strip_prefix(&root(outer))?.to_owned()
            }
            _ => return None,
        };
        let folder = rest.trim_end_matches('/');
        (!folder.is_empty()).then(|| folder.to_owned())
    }

    /// Whether one file could be in both.
    pub(super) fn overlaps(&self, other: &Location) -> bool {
        let nested = |x: &str, y: &str| x.starts_with(y) || y.starts_with(x);
        match (self, other) {
            (Location::Folder(x), Location::Folder(y)) => x.starts_with(y) || y.starts_with(x),
            (Location::S3(x), Location::S3(y)) => x.bucket == y.bucket && x.endpoint == y.endpoint && nested(&x.prefix, &y.prefix),
            (Location::Service(x), Location::Service(y)) => {
                let whole = |s: &Service| format!("{}/", s.place.trim_end_matches('/'));
                // What the options make of a place (a bucket, a root) only the service knows: the same ones are the same place.
                x.scheme == y.scheme && x.options == y.options && nested(&whole(x), &whole(y))
            }
            (Location::Memory(x), Location::Memory(y)) => x == y,
            _ => false,
        }
    }
}

impl Bucket {
    /// Reads what stands after `s3://`; an error is the complaint and what to write instead.
    fn parse(text: &str) -> Result<Self, (String, &'static str)> {
        let example = "write s3://bucket/prefix?region=..&endpoint=..";
        let (place, query) = text.split_once('?').unwrap_or((text, ""));
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() {
            return Err(("names no bucket".into(), example));
        }
        if bucket.contains('@') {
            return Err((
                "holds credentials".into(),
                "credentials come from the environment (AWS_ACCESS_KEY_ID, ..), a profile or the machine's role",
            ));
        }
        let prefix = percent_encoding::percent_decode_str(prefix.trim_end_matches('/'))
            .decode_utf8()
            .map_err(|_| ("has a prefix that is not UTF-8".to_owned(), example))?;
        let prefix = match prefix.as_ref() {
            "" => String::new(),
            some => {
                crate::FileName::parse(some).map_err(|why| (format!("has a prefix that {why}"), example))?;
                format!("{some}/")
            }
        };
        let mut place = Bucket { bucket: bucket.to_owned(), prefix, ..Bucket::default() };
        for (key, value) in options(query) {
            match key.as_str() {
                "region" => place.region = Some(value),
                "endpoint" => {
                    if !value.starts_with("http://") && !value.starts_with("https://") {
                        return Err((
                            format!("has an `endpoint` that is no http(s) address: {value:?}"),
                            "write endpoint=https://s3.example.com",
                        ));
                    }
                    place.endpoint = Some(value.trim_end_matches('/').to_owned());
                }
                "profile" => place.profile = Some(value),
                "path_style" => {
                    place.path_style =
                        Some(value.parse().map_err(|_| {
                            (format!("has a `path_style` that is neither true nor false: {value:?}"), "write path_style=true")
                        })?);
                }
                other => {
                    return Err((
                        format!("has an option that S3 does not know: {other:?}"),
                        "known are: region, endpoint, path_style, profile",
                    ));
                }
            }
        }
        Ok(place)
    }
}

/// What an option's value holds encoded in a URL.
const OPTION: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b' ').add(b'%').add(b'&').add(b'#').add(b'+');

/// What a prefix holds encoded in a URL.
const PREFIX: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#');

/// The decoded pairs of a query.
fn options(query: &str) -> impl Iterator<Item = (String, String)> {
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    })
}

/// A storage's `url` as it may be shown: without what could be a secret.
pub(super) fn shown(text: &str) -> String {
    let (place, query) = text.split_once('?').map_or((text, None), |(p, q)| (p, Some(q)));
    let mut out = match (place.find("://"), place.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => {
            let user = place[scheme + 3..at].split(':').next().unwrap_or("");
            format!("{}{user}{}{}", &place[..scheme + 3], if place[scheme + 3..at].contains(':') { ":***" } else { "" }, &place[at..])
        }
        _ => place.to_owned(),
    };
    for (i, pair) in query.into_iter().flat_map(|q| q.split('&')).enumerate() {
        out.push(if i == 0 { '?' } else { '&' });
        let key = pair.split('=').next().unwrap_or("");
        // Only what is known to be harmless is shown: OpenDAL's services name their secrets in too many ways.
        match ["region", "endpoint", "path_style", "profile", "root", "bucket", "container", "share", "user", "account_name"].contains(&key)
        {
            true => out.push_str(pair),
            false => out.push_str(&format!("{key}=***")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Location> {
        Location::parse(text, Path::new("/base"))
    }

    #[test]
    fn a_url_names_a_place() {
        assert_eq!(parse("folder:media").unwrap(), Location::Folder("/base/media".into()));
        assert_eq!(parse("folder:///srv/media").unwrap(), Location::Folder("/srv/media".into()));
        let bucket = |prefix: &str| Bucket { bucket: "photos".into(), prefix: prefix.into(), ..Bucket::default() };
        assert_eq!(parse("s3://photos").unwrap(), Location::S3(bucket("")));
        assert_eq!(parse("s3://photos/").unwrap(), Location::S3(bucket("")));
        assert_eq!(parse("s3://photos/a%20b/c/").unwrap(), Location::S3(bucket("a b/c/")));
        let Location::S3(given) =
            parse("s3://photos/m?region=eu-west-1&endpoint=http%3A%2F%2F127.0.0.1:3900/&path_style=false&profile=p").unwrap()
        else {
            panic!("no bucket")
        };
        assert_eq!((given.region.as_deref(), given.endpoint.as_deref()), (Some("eu-west-1"), Some("http://127.0.0.1:3900")));
        assert_eq!((given.path_style, given.profile.as_deref()), (Some(false), Some("p")));
        let Location::Service(sftp) = parse("sftp://host:22/srv?user=me&key=%2Fid").unwrap() else { panic!("no service") };
        assert_eq!((sftp.scheme.as_str(), sftp.place.as_str(), sftp.options["key"].as_str()), ("sftp", "host:22/srv", "/id"));
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said() {
        for (url, why) in [
            ("media", "no kind of storage"),
            ("ftp:media", "no kind of storage"),
            ("folder:", "no place"),
            ("s3://", "no bucket"),
            ("s3:///a", "no bucket"),
            ("s3://key:secret@photos", "credentials"),
            ("s3://photos/../x", "`..` segment"),
            ("s3://photos/a//b", "empty segment"),
            ("s3://photos/.rowbound", "belongs to Rowbound"),
            ("s3://photos?region", ""),
            ("s3://photos?regoin=x", "\"regoin\""),
            ("s3://photos?endpoint=localhost:9000", "no http(s) address"),
            ("s3://photos?path_style=yes", "neither true nor false"),
        ] {
            match parse(url) {
                Ok(_) => assert_eq!(why, "", "{url}"),
                Err(e) => {
                    assert!(e.to_string().contains(why), "{url}: {e}");
                    assert!(e.hint_text().is_some(), "{url}");
                    assert!(!e.full().contains("secret"), "{url}: {e}");
                }
            }
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(shown("webdav://me:pw@host/dav?root=/x&password=pw&token=t"), "webdav://me:***@host/dav?root=/x&password=***&token=***");
        assert_eq!(shown("sftp://me@host/dir?key=/id"), "sftp://me@host/dir?key=***");
        assert_eq!(shown("s3://b/p?region=r&endpoint=http://h"), "s3://b/p?region=r&endpoint=http://h");
        assert_eq!(shown("folder:a@b:c"), "folder:a@b:c");
    }

    #[test]
    fn overlapping_places_are_told() {
        for (one, other, overlap) in [
            ("s3://b", "s3://b/x", true),
            ("s3://b/x", "s3://b/xy", false),
            ("s3://b/x", "s3://c/x", false),
            ("s3://b?endpoint=http://h", "s3://b", false),
            ("sftp://h/a", "sftp://h/a/b", true),
            ("sftp://h/a", "sftp://h/ab", false),
            ("memory:a", "memory:a", true),
            ("memory:a", "folder:a", false),
        ] {
            assert_eq!(parse(one).unwrap().overlaps(&parse(other).unwrap()), overlap, "{one} {other}");
        }
    }

    #[test]
    fn a_prefix_may_lie_within_another() {
        for (inner, outer, folder) in [
            ("s3://b/x/y", "s3://b/x", Some("y")),
            ("s3://alias/x/y/z?endpoint=http://h", "s3://b/x", Some("y/z")),
            ("s3://c", "s3://b", None),
            ("s3://b/xy", "s3://b/x", None),
            ("s3://b/x", "s3://b/x/y", None),
            ("sftp://h/a/b", "sftp://other/a", Some("b")),
            ("sftp://h?root=/a/b", "sftp://h/a", Some("b")),
            ("sftp://h/a", "webdav://h", None),
            ("folder:a/b", "folder:a", None),
        ] {
            assert_eq!(parse(inner).unwrap().folder_in(&parse(outer).unwrap()).as_deref(), folder, "{inner} {outer}");
        }
    }

    proptest! {
        #[test]
        fn a_place_survives_its_url(prefix in "[^/\\x00.][^\\x00/]{0,9}", option in ".{1,9}") {
            let bucket = Bucket { bucket: "b".into(), prefix: format!("{prefix}/"), region: Some(option.clone()), ..Bucket::default() };
            let place = Location::S3(bucket);
            prop_assert_eq!(&parse(&place.to_url()).unwrap(), &place);
            let place = Location::Service(Service {
                scheme: "webdav".into(), place: "host/a".into(), options: [("password".to_owned(), option.clone())].into(),
            });
            prop_assert_eq!(&parse(&place.to_url()).unwrap(), &place);
        }
    }
}
