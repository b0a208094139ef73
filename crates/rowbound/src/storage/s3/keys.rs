//! Keys: looks, listings and deletions by exact key.
//!
//! In: keys. Out: what the service says of exactly these. Promise: a key goes to the service in a form that no layer rewrites, and an answer
//! about another key is never taken for this one's.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use aws_sdk_s3::{
    primitives::DateTime,
    types::{Delete, EncodingType, ObjectIdentifier},
};
use futures_util::future::join_all;
use jiff::Timestamp;

use super::{
    Inner,
    attributes::class,
    marker::WriteCondition,
    wire::{Failure, pause},
};
use crate::{
    crash,
    error::Result,
    storage::{Conditional, Content, FileVersion, Since},
};

/// S3's longest key, in bytes.
pub(super) const LONGEST_KEY: usize = 1024;

/// Keys of one page or of one deletion, at most.
pub(super) const PAGE: usize = 1000;

/// How often what a deletion left undone is asked for again.
const ROUNDS: u32 = 5;

/// What stands after every key that begins with the same text.
pub(super) const HIGHEST: char = '\u{10ffff}';

/// One entry of a listing.
#[derive(Debug)]
pub(super) struct Object {
    pub key: String,
    /// `None` if the listing does not tell enough.
    pub seen: Option<FileVersion>,
    /// Its storage class; `None` is the usual one.
    pub class: Option<String>,
}

/// One page of a listing.
#[derive(Debug)]
pub(super) struct Slice {
    pub objects: Vec<Object>,
    /// What the next page continues from; `None` after the last.
    pub next: Option<String>,
}

/// A key, or one version of it, that is to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deletion<'a> {
    pub key: &'a str,
    /// It must still be this.
    pub etag: Option<&'a str>,
    pub version: Option<&'a str>,
}

/// What became of a [`Deletion`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gone {
    /// The service says that it is gone, and which delete marker hides it now.
    Deleted(Option<String>),
    /// It is another one.
    Changed,
    /// It was not there.
    Missing,
    /// It is another one or not there; an attempt before, which was not answered, may have deleted it.
    Unsure,
}

/// What a service says of an object; `None` if it leaves out what a deletion must know.
pub(super) fn seen(size: Option<i64>, modified: Option<&DateTime>, etag: Option<&str>) -> Option<FileVersion> {
    // Whole seconds: a HEAD has no more, some listings have.
    let modified = Timestamp::from_second(modified?.secs()).ok()?;
    let version = etag.filter(|e| !e.is_empty())?;
    let version = if version.ends_with('"') { version.to_owned() } else { format!("\"{version}\"") };
    let since = if in_parts(&version) { Since::Unknown(IN_PARTS) } else { Since::At(modified) };
    // With its time: the same bytes that are written once more have the same ETag, and are another upload.
    Some(FileVersion { since, content: Content::VersionAt, ..FileVersion::new(u64::try_from(size?).ok()?, modified, version) })
}

/// Why an object's time says nothing. By AWS's documentation of object metadata its Last-Modified is the moment at which a multipart upload was initiated.
const IN_PARTS: &str = "it was uploaded in parts, and S3 tells when that began, not when it ended";

/// Whether an ETag is one of an upload in parts: `"hex-number"`.
fn in_parts(etag: &str) -> bool {
    let bare = etag.trim_start_matches("W/").trim_matches('"');
    bare.rsplit_once('-').is_some_and(|(_, parts)| !parts.is_empty() && parts.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether the key survives XML: not what XML 1.0 cannot hold or rewrites, nor blanks at an end, which some parsers take off.
fn plain_in_xml(key: &str) -> bool {
    let odd = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}' | '\u{feff}');
    key.trim() == key && !key.contains(odd)
}

/// Decodes a key of a listing with `encoding-type=url`.
fn decoded(text: &str) -> Result<String, Failure> {
    let spaced = text.replace('+', "%20");
    match percent_encoding::percent_decode_str(&spaced).decode_utf8() {
        Ok(key) => Ok(key.into_owned()),
        Err(_) => Err(Failure::strange(format!("the listing holds a key that is not UTF-8: {text}"))),
    }
}

impl Inner {
    /// A HEAD. `Ok(None)` is "no such key", of which the bucket's own absence is no proof.
    pub(super) async fn head(&self, key: &str) -> Result<Option<FileVersion>, Failure> {
        Ok(self.head_with_class(key).await?.map(|(seen, _)| seen))
    }

    /// The same with the object's storage class; `None` is the usual one.
    pub(super) async fn head_with_class(&self, key: &str) -> Result<Option<(FileVersion, Option<String>)>, Failure> {
        let client = self.client().await?;
        match self.wire.call(|| client.head_object().bucket(self.wire.bucket()).key(key).send()).await {
            Ok(head) => match seen(head.content_length(), head.last_modified(), head.e_tag()) {
                Some(seen) => Ok(Some((seen, class(head.storage_class().map(|class| class.as_str()))))),
                None => Err(Failure::of_key(None, Some("the service tells no ETag, size or time of the object"))),
            },
            Err(failure) if failure.no_key() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// A key as it was written, from the text of a listing that says (`url`) or does not say that its keys are encoded.
    pub(super) async fn written(&self, text: &str, url: bool) -> Result<String, Failure> {
        match url && text.contains(['%', '+']) && Box::pin(self.encodes()).await? {
            true => decoded(text),
            false => Ok(text.to_owned()),
        }
    }

    /// Whether listings that say so really encode their keys (s3s-fs 0.14 does not): seen once, by a key of our own.
    async fn encodes(&self) -> Result<bool, Failure> {
        let try_it = async {
            let key = self.probe_key();
            let client = self.client().await?;
            let written = self.write_own(&key, b"probe\n", WriteCondition::Always).await?;
            let list = || client.list_objects_v2().bucket(self.wire.bucket()).prefix(&key).encoding_type(EncodingType::Url).send();
            let page = self.wire.call(list).await;
            let item = Deletion { key: &key, etag: None, version: written.version_id() };
            self.delete(&[item], Conditional::No).await.remove(0)?;
            let page = page?;
            match page.contents().iter().filter_map(|o| o.key()).collect::<Vec<_>>()[..] {
                [text] if text == key => Ok(false),
                [text] if decoded(text)? == key => Ok(true),
                ref shown => Err(Failure::of_key(None, Some(&format!("{key:?} was written, and listed as {shown:?}")))),
            }
        };
        self.encodes.get_or_try_init(|| try_it).await.copied()
    }

    /// One page of the keys that begin with `prefix`, after `after` or from where `token` says.
    pub(super) async fn slice(&self, prefix: &str, after: Option<&str>, token: Option<&str>) -> Result<Slice, Failure> {
        let client = self.client().await?;
        // All that begins with the prefix is behind what sorts before it; Garage 2.5 answers with nothing at all there.
        let after = after.filter(|after| *after >= prefix);
        let page = self
            .wire
            .call(|| {
                client
                    .list_objects_v2()
                    .bucket(self.wire.bucket())
                    .prefix(prefix)
                    .set_start_after(after.filter(|_| token.is_none()).map(str::to_owned))
                    .set_continuation_token(token.map(str::to_owned))
                    .encoding_type(EncodingType::Url)
                    .max_keys(PAGE as i32)
                    .send()
            })
            .await?;
        let url = page.encoding_type() == Some(&EncodingType::Url);
        let mut objects: Vec<Object> = Vec::with_capacity(page.contents().len());
        for object in page.contents() {
            let key = object.key().ok_or_else(|| Failure::strange("the listing holds an entry without a key"))?;
            let key = self.written(key, url).await?;
            let before = objects.last().map(|o| o.key.as_str()).or(after.filter(|_| token.is_none()));
            if !key.starts_with(prefix) || before.is_some_and(|before| before >= key.as_str()) {
                return Err(Failure::of_key(None, Some(&format!("the listing is not in the order of its keys' bytes at {key:?}"))));
            }
            let seen = seen(object.size(), object.last_modified(), object.e_tag());
            objects.push(Object { seen, class: class(object.storage_class().map(|class| class.as_str())), key });
        }
        match (page.is_truncated(), page.next_continuation_token()) {
            (Some(false), _) => Ok(Slice { objects, next: None }),
            (Some(true), Some(next)) if !objects.is_empty() => Ok(Slice { objects, next: Some(next.to_owned()) }),
            _ => Err(Failure::strange("the listing does not say whether there is more")),
        }
    }

    /// Deletes each, with its condition if `how` has one. One result per item, in order; no item may be there twice.
    pub(super) async fn delete(&self, items: &[Deletion<'_>], how: Conditional) -> Vec<Result<Gone, Failure>> {
        let alone = |item: &Deletion<'_>| !plain_in_xml(item.key) || (item.etag.is_some() && how == Conditional::OneByOne);
        let (single, bulk): (Vec<usize>, Vec<usize>) = (0..items.len()).partition(|i| alone(&items[*i]));
        let mut done: Vec<Option<Result<Gone, Failure>>> = (0..items.len()).map(|_| None).collect();
        let singles = join_all(single.iter().map(|i| async { (*i, self.delete_one(&items[*i], how).await) }));
        let bulks = join_all(bulk.chunks(PAGE).map(|chunk| self.delete_chunk(items, chunk, how)));
        let (singles, bulks) = futures_util::future::join(singles, bulks).await;
        for (i, one) in singles.into_iter().chain(bulks.into_iter().flatten()) {
            done[i] = Some(one);
        }
        done.into_iter().map(|one| one.unwrap_or_else(|| Err(Failure::strange("the deletion was not answered")))).collect()
    }

    pub(super) async fn delete_one(&self, item: &Deletion<'_>, how: Conditional) -> Result<Gone, Failure> {
        let client = self.client().await?;
        let condition = item.etag.filter(|_| how != Conditional::No);
        let attempts = AtomicU32::new(0);
        let sent = self
            .wire
            .call_if(repeatable(&[item], how), || {
                attempts.fetch_add(1, Relaxed);
                client
                    .delete_object()
                    .bucket(self.wire.bucket())
                    .key(item.key)
                    .set_version_id(item.version.map(str::to_owned))
                    .set_if_match(condition.map(str::to_owned))
                    .send()
            })
            .await;
        let done = match sent {
            Ok(answer) => {
                let marker = answer.version_id().filter(|_| item.version.is_none() && answer.delete_marker() == Some(true));
                Ok(Gone::Deleted(marker.map(str::to_owned)))
            }
            Err(failure) => missed(failure, attempts.into_inner() > 1),
        };
        crash::point("remove-one");
        done
    }

    /// One request's worth, and again what the service says to try again.
    async fn delete_chunk(&self, items: &[Deletion<'_>], chunk: &[usize], how: Conditional) -> Vec<(usize, Result<Gone, Failure>)> {
        let mut done = Vec::with_capacity(chunk.len());
        let mut left = chunk.to_vec();
        for round in 1.. {
            let answer = self.delete_request(items, &left, how, round > 1).await;
            let mut again = Vec::new();
            for (i, one) in left.iter().copied().zip(answer) {
                match one {
                    Err(failure) if round < ROUNDS && repeatable(&[&items[i]], how)(&failure) => again.push((i, failure)),
                    one => done.push((i, one)),
                }
            }
            if again.len() == left.len() {
                // The request as a whole was tried again already.
                done.extend(again.into_iter().map(|(i, failure)| (i, Err(failure))));
                break;
            }
            if again.is_empty() {
                break;
            }
            left = again.into_iter().map(|(i, _)| i).collect();
            pause(round).await;
        }
        done
    }

    /// `again`: all of these were asked for before, and the service told them to come back later.
    async fn delete_request(&self, items: &[Deletion<'_>], chunk: &[usize], how: Conditional, again: bool) -> Vec<Result<Gone, Failure>> {
        let whole = |failure: Failure| chunk.iter().map(|_| Err(failure.clone())).collect();
        let client = match self.client().await {
            Ok(client) => client,
            Err(failure) => return whole(failure),
        };
        let mut objects = Vec::with_capacity(chunk.len());
        for i in chunk {
            let item = &items[*i];
            let object = ObjectIdentifier::builder()
                .key(item.key)
                .set_version_id(item.version.map(str::to_owned))
                .set_e_tag(item.etag.filter(|_| how == Conditional::InBulk).map(str::to_owned))
                .build();
            match object {
                Ok(object) => objects.push(object),
                Err(e) => return whole(Failure::of_key(None, Some(&e.to_string()))),
            }
        }
        let delete = match Delete::builder().set_objects(Some(objects)).quiet(false).build() {
            Ok(delete) => delete,
            Err(e) => return whole(Failure::of_key(None, Some(&e.to_string()))),
        };
        let attempts = AtomicU32::new(u32::from(again));
        let asked: Vec<_> = chunk.iter().map(|i| &items[*i]).collect();
        let sent = self.wire.call_if(repeatable(&asked, how), || {
            attempts.fetch_add(1, Relaxed);
            client.delete_objects().bucket(self.wire.bucket()).delete(delete.clone()).send()
        });
        let answer = match sent.await {
            Ok(answer) => answer,
            Err(failure) => return whole(failure),
        };
        crash::point("remove-one");
        let unanswered = attempts.into_inner() > 1;
        let mut told: HashMap<(&str, Option<&str>), Result<Gone, Failure>> = HashMap::new();
        for gone in answer.deleted() {
            let Some(key) = gone.key() else { continue };
            let marker = gone.delete_marker_version_id().filter(|_| gone.delete_marker() == Some(true));
            told.insert((key, gone.version_id()), Ok(Gone::Deleted(marker.map(str::to_owned))));
        }
        for error in answer.errors() {
            let Some(key) = error.key() else { continue };
            let failure = Failure::of_key(error.code(), error.message());
            let version = error.version_id().filter(|v| !v.is_empty());
            told.insert((key, version), missed(failure, unanswered));
        }
        chunk
            .iter()
            .map(|i| {
                let item = &items[*i];
                // Some services leave the version out of an error, and some put one into every answer.
                let found = told.remove(&(item.key, item.version)).or_else(|| told.remove(&(item.key, None)));
                let found = found.or_else(|| {
                    let other = told.keys().find(|(key, _)| item.version.is_none() && *key == item.key).copied()?;
                    told.remove(&other)
                });
                // A key that the answer does not name is not known to be gone.
                found.unwrap_or_else(|| Err(Failure::strange("the service's answer does not name this key")))
            })
            .collect()
    }
}

/// Why a deletion is an error where what stands there now does not tell what became of it.
pub(super) fn unanswered() -> Failure {
    Failure::strange("the first attempt was not answered, and another file may have taken the name since")
}

/// Whether a deletion may be sent again after a failure. A file that was seen, and is deleted without a condition, may be gone and another be there: then only if the
/// service said that it has done nothing. The collector looks again before it comes back.
fn repeatable(items: &[&Deletion<'_>], how: Conditional) -> impl Fn(&Failure) -> bool {
    let seen = how == Conditional::No && items.iter().any(|item| item.etag.is_some());
    move |failure| failure.transient() && (!seen || failure.refused())
}

/// What became of a deletion that the service did not do. `unanswered`: it was sent before without an answer, and that attempt may have deleted the object.
fn missed(failure: Failure, unanswered: bool) -> Result<Gone, Failure> {
    match (failure.condition(), failure.no_key()) {
        (true, _) | (_, true) if unanswered => Ok(Gone::Unsure),
        (true, _) => Ok(Gone::Changed),
        (_, true) => Ok(Gone::Missing),
        _ => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_listing_are_decoded_exactly() {
        for (text, key) in [("a+b", "a b"), ("a%2Bb", "a+b"), ("a%20b%25", "a b%"), ("%F0%9F%98%80/%0A", "\u{1f600}/\n"), ("%252e", "%2e")]
        {
            assert_eq!(decoded(text).unwrap(), key);
        }
        assert!(decoded("%ff").is_err());
    }

    #[test]
    fn the_same_bytes_once_more_are_another_upload() {
        let of = |second: i64, etag: &str| seen(Some(1), Some(&DateTime::from_secs(second)), Some(etag)).unwrap();
        assert_eq!(of(1, "\"abc\"").content(), of(1, "abc").content());
        assert_ne!(of(1, "abc").content(), of(2, "abc").content());
        assert_ne!(of(1, "abc").content(), of(1, "abd").content());
        for (etag, parts) in [("abc-3", true), ("\"abc-12\"", true), ("abc", false), ("abc-", false), ("a-bc", false), ("\"0-0\"", true)] {
            assert_eq!(matches!(of(1, etag).since, Since::Unknown(_)), parts, "{etag}");
        }
    }

    #[test]
    fn what_xml_would_change_goes_alone() {
        for key in ["a\rb", "a\nb", "a\u{1}", "a ", " a", "a\u{85}b", "a\u{2028}", "a\u{ffff}"] {
            assert!(!plain_in_xml(key), "{key:?}");
        }
        for key in ["a b", "<&>'\"", "\u{1f600}", "%0d", "]]>"] {
            assert!(plain_in_xml(key), "{key:?}");
        }
    }
}
