//! The file as it is written: strings, not yet checked.

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub database: Option<String>,
    #[serde(default)]
    pub storage: BTreeMap<String, Storage>,
    #[serde(default)]
    pub binding: Vec<Bind>,
    #[serde(default)]
    pub reference: Vec<Reference>,
    #[serde(default)]
    pub hook: Vec<Hooked>,
    pub ignore: Option<OneOrMany>,
    pub keep_history: Option<String>,
    pub barrier: Option<Barrier>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Barrier {
    pub ignore: OneOrMany,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Storage {
    url: Option<String>,
    grace: Option<String>,
    min_age: Option<String>,
    trash: Option<String>,
    erase: Option<String>,
    prune_folders: Option<bool>,
    stage_ttl: Option<String>,
    base_url: Option<String>,
    ignore: Option<OneOrMany>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bind {
    column: Option<String>,
    storage: Option<String>,
    kind: Option<String>,
    prefix: Option<OneOrMany>,
    path: Option<String>,
    pattern: Option<String>,
    keep: Option<OneOrMany>,
    strip: Option<OneOrMany>,
    #[serde(rename = "where")]
    only: Option<BTreeMap<String, String>>,
    mode: Option<String>,
    capture: Option<String>,
    derivatives: Option<OneOrMany>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reference {
    name: Option<String>,
    query: Option<String>,
    storage: Option<String>,
    kind: Option<String>,
    prefix: Option<OneOrMany>,
    path: Option<String>,
    pattern: Option<String>,
    keep: Option<OneOrMany>,
    strip: Option<OneOrMany>,
    #[serde(rename = "where")]
    only: Option<toml::Value>,
    derivatives: Option<OneOrMany>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hooked {
    name: Option<String>,
    command: Option<String>,
    url: Option<String>,
    secret: Option<OneOrMany>,
    outcomes: Option<OneOrMany>,
    batch: Option<u32>,
    timeout: Option<String>,
}

impl Hooked {
    pub(super) fn resolve(self) -> Result<Hook> {
        let name = self.name.clone().unwrap_or_default();
        let in_context = |e: Error| if name.is_empty() { e.with("in", "hook") } else { e.with("hook", &name) };
        let call = match (self.command, self.url) {
            (Some(command), None) if self.secret.is_none() => Call::Command(command),
            (Some(_), None) => return Err(in_context(Error::new(Kind::Config, "`secret` goes with `url`"))),
            // As an empty text is: it would leave every call unsigned.
            (None, Some(_)) if matches!(&self.secret, Some(OneOrMany::Many(all)) if all.is_empty()) => {
                return Err(in_context(
                    Error::new(Kind::Config, "`secret` is an empty list").hint("leave it out where nothing is to be signed"),
                ));
            }
            (None, Some(url)) => Call::Webhook { url, secrets: self.secret.map(Vec::from).unwrap_or_default() },
            _ => {
                return Err(in_context(
                    Error::new(Kind::Config, "a [[hook]] has either a `command` or a `url`")
                        .hint("command = \"./purge-cdn\", or url = \"https://example.com/deleted\""),
                ));
            }
        };
        let mut hook = Hook::new(call);
        if let Some(name) = &self.name {
            hook.name.clone_from(name);
        }
        if let Some(words) = self.outcomes {
            hook.outcomes = Vec::from(words)
                .iter()
                .map(|word| {
                    Outcome::from_word(word).ok_or_else(|| {
                        let known: Vec<_> = Outcome::ALL.iter().map(|(o, _)| o.word()).collect();
                        in_context(Error::new(Kind::Config, "`outcomes` has no such value").with("outcomes", format_args!("{word:?}")))
                            .hint(format!("write some of: {}", known.join(", ")))
                    })
                })
                .collect::<Result<_>>()?;
        }
        if let Some(batch) = self.batch {
            hook.batch = batch;
        }
        if let Some(text) = &self.timeout {
            hook.timeout = duration("timeout", text).map_err(in_context)?;
        }
        Ok(hook)
    }
}

/// The fields that say how values are read, together.
fn reading(kind: Option<String>, prefix: Option<OneOrMany>, path: Option<String>, pattern: Option<String>) -> Result<Reading> {
    let kind = kind.as_deref().unwrap_or("name");
    let goes = |field: &str, with: &str| Error::new(Kind::Config, format!("`{field}` goes with kind = {with}"));
    if prefix.is_some() && matches!(kind, "name" | "active-storage-key") {
        return Err(goes("prefix", "\"url\", \"json\", \"array\" or \"text\""));
    }
    if path.is_some() && kind != "json" {
        return Err(goes("path", "\"json\""));
    }
    if pattern.is_some() && kind != "text" {
        return Err(goes("pattern", "\"text\""));
    }
    let prefixes: Vec<String> = prefix.map(Into::into).unwrap_or_default();
    Ok(match kind {
        "name" => Reading::Name,
        "url" => Reading::Url { prefixes },
        "active-storage-key" => Reading::Key,
        "json" => Reading::Json {
            path: JsonPath::parse(&path.ok_or_else(|| {
                Error::new(Kind::Config, "`path` is missing for kind = \"json\"").hint("$[*] for a list of names, $.image, $[*].src, ..")
            })?)?,
            prefixes,
        },
        "array" => Reading::Array { prefixes },
        "text" => Reading::Text(Finder::new(prefixes, pattern.as_deref())?),
        other => {
            return Err(Error::new(Kind::Config, "`kind` has no such value")
                .with("kind", format_args!("{other:?}"))
                .hint("write one of: name, url, json, array, text, active-storage-key"));
        }
    })
}

/// The reading with prefixes that are taken away raw.
fn stripped(reading: Reading, strip: Option<OneOrMany>) -> Result<Reading> {
    let Some(strip) = strip.map(Vec::from) else { return Ok(reading) };
    match reading {
        Reading::Name => Ok(Reading::Raw { strip, prefixes: Vec::new(), bare: true }),
        Reading::Url { prefixes } => Ok(Reading::Raw { strip, prefixes, bare: false }),
        _ => Err(Error::new(Kind::Config, "`strip` goes with kind = \"name\" or \"url\"")),
    }
}

impl Reference {
    pub(super) fn resolve(self) -> Result<Binding> {
        let name = self.name.filter(|n| !n.is_empty()).ok_or_else(|| {
            Error::new(Kind::Config, "a [[reference]] has no `name`").hint("a word by which messages call it: name = \"media\"")
        })?;
        let in_context = |e: Error| e.with("reference", &name);
        let query = self.query.ok_or_else(|| in_context(Error::new(Kind::Config, "`query` is missing")))?;
        if let Some(only) = self.only {
            return Err(in_context(
                Error::new(Kind::Config, "`where` goes with a [[binding]]: a query says itself which rows count")
                    .with("where", only)
                    .hint("write the condition into `query`: select file from media where kind = 'image'"),
            ));
        }
        let storage = self.storage.unwrap_or_else(|| "default".to_owned());
        let reading = reading(self.kind, self.prefix, self.path, self.pattern).and_then(|reading| stripped(reading, self.strip));
        Ok(Binding::query(&name, &storage, &query)
            .reading(reading.map_err(in_context)?)
            .keep(self.keep.map(Vec::from).unwrap_or_default())
            .derivatives(self.derivatives.map(Vec::from).unwrap_or_default()))
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for Vec<String> {
    fn from(value: OneOrMany) -> Self {
        match value {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}

impl Storage {
    pub(super) fn resolve(self, name: String, base: &Path) -> Result<StoragePlan> {
        let in_context = |e: Error| e.with("storage", &name);
        let url = self.url.ok_or_else(|| in_context(Error::new(Kind::Config, "`url` is missing").hint("write url = \"folder:media\"")))?;
        let mut plan = StoragePlan::at(&name, Location::parse(&url, base).map_err(in_context)?);
        if let Some(text) = &self.grace {
            plan.grace = duration("grace", text).map_err(in_context)?;
        }
        if let Some(text) = &self.min_age {
            plan.min_age = duration("min_age", text).map_err(in_context)?;
        }
        match self.trash.as_deref() {
            None => {}
            Some("off") => plan.trash = Trash::Off,
            Some(text) => match duration("trash", text).map_err(in_context)? {
                Duration::ZERO => {
                    return Err(in_context(
                        Error::new(Kind::Config, "`trash` has no length")
                            .with("trash", format_args!("{text:?}"))
                            .hint("write \"off\" to erase at once"),
                    ));
                }
                time => plan.trash = Trash::Keep(time),
            },
        }
        match self.erase.as_deref() {
            None | Some("after-retention") => {}
            Some("all-versions") => plan.erase = Erase::AllVersions,
            Some(other) => {
                return Err(in_context(
                    Error::new(Kind::Config, "`erase` has no such value")
                        .with("erase", format_args!("{other:?}"))
                        .hint("write one of: after-retention, all-versions"),
                ));
            }
        }
        if plan.erase == Erase::AllVersions && !matches!(plan.location, Location::S3(_)) {
            return Err(in_context(Error::new(Kind::Config, "`erase = \"all-versions\"` goes with s3:// storages only")));
        }
        plan.ignore = self.ignore.map(Into::into).unwrap_or_default();
        if let Some(prune) = self.prune_folders {
            plan.prune_folders = prune;
        }
        plan.stage_ttl = self.stage_ttl.as_deref().map(|text| duration("stage_ttl", text)).transpose().map_err(in_context)?;
        plan.base_url = self.base_url;
        Ok(plan)
    }
}

impl Bind {
    pub(super) fn resolve(self) -> Result<Binding> {
        let text = self.column.ok_or_else(|| Error::new(Kind::Config, "a [[binding]] has no `column`"))?;
        let column = Column::parse(&text)?;
        let shown = column.clone();
        let one_of = |field: &'static str, value: &str, allowed: &str| {
            Error::new(Kind::Config, format!("`{field}` has no such value"))
                .with("binding", &shown)
                .with(field, format_args!("{value:?}"))
                .hint(format!("write one of: {allowed}"))
        };
        let reading = reading(self.kind, self.prefix, self.path, self.pattern).and_then(|reading| stripped(reading, self.strip));
        let reading = reading.map_err(|e| e.with("binding", &shown))?;
        Ok(Binding {
            query: None,
            storage: self.storage.unwrap_or_else(|| "default".to_owned()),
            reading,
            names: Names::Paths,
            keep: self.keep.map(Into::into).unwrap_or_default(),
            derivatives: self.derivatives.map(Into::into).unwrap_or_default(),
            only: self.only.unwrap_or_default(),
            mode: match self.mode.as_deref().unwrap_or("live") {
                "live" => Mode::Live,
                "shadow" => Mode::Shadow,
                other => return Err(one_of("mode", other, "live, shadow")),
            },
            body: match self.capture.as_deref().unwrap_or("tolerant") {
                "tolerant" => Body::Tolerant,
                "fast" => Body::Fast,
                other => return Err(one_of("capture", other, "tolerant, fast")),
            },
            column,
        })
    }
}
