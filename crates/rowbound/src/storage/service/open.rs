//! From a URL's parts to OpenDAL's operator. No IO.

use std::collections::BTreeMap;

use opendal::{Builder, Configurator, Operator};

use crate::{
    error::{Error, Kind, Result},
    plan::Service,
    storage::services::{Place, ServiceKind},
};

/// The operator of a place.
pub(super) fn operator(kind: &ServiceKind, at: &Service) -> Result<Operator> {
    let options = options(kind, at)?;
    match kind.scheme {
        #[cfg(feature = "service-azblob")]
        "azblob" => web(build::<opendal::services::AzblobConfig>(&options)?),
        #[cfg(feature = "service-ftp")]
        "ftp" => build::<opendal::services::FtpConfig>(&options),
        #[cfg(feature = "service-sftp")]
        "sftp" => build::<opendal::services::SftpConfig>(&options),
        #[cfg(feature = "service-swift")]
        "swift" => web(build::<opendal::services::SwiftConfig>(&options)?),
        #[cfg(feature = "service-webdav")]
        "webdav" => web(build::<opendal::services::WebdavConfig>(&options)?),
        _ => Err(Error::new(Kind::Config, format!("this build has no {} in it", kind.scheme))),
    }
}

/// OpenDAL's options: those of the URL, and what its place means. An option that is given wins.
fn options(kind: &ServiceKind, at: &Service) -> Result<BTreeMap<String, String>> {
    let bad = |why: &str| Error::new(Kind::Config, format!("`url` {why}")).hint(format!("write {}", kind.url));
    let (first, root) = at.place.split_once('/').unwrap_or((&at.place, ""));
    let root = percent_encoding::percent_decode_str(root).decode_utf8().map_err(|_| bad("has a root that is not UTF-8"))?;
    let root = root.trim_matches('/');
    if !root.is_empty() {
        crate::FileName::parse(root).map_err(|why| bad(&format!("has a root that {why}")))?;
        if opendal::raw::normalize_path(root) != root {
            return Err(bad("has a root that begins or ends with a blank"));
        }
    }
    let mut options = at.options.clone();
    let mut set = |key: &str, value: String| {
        options.entry(key.to_owned()).or_insert(value);
    };
    match kind.place {
        Place::Container(option) => match first {
            "" if !at.options.contains_key(option) => return Err(bad("names no container")),
            "" => {}
            container => set(option, container.to_owned()),
        },
        Place::Host(scheme) => {
            if first.contains('@') && (kind.scheme != "sftp" || first.split('@').next().is_some_and(|user| user.contains(':'))) {
                return Err(bad("holds credentials in its host: they are options"));
            }
            if !first.is_empty() {
                set("endpoint", format!("{scheme}{first}"));
            }
        }
    }
    // An empty root is the service's own: a container as a whole, the folder into which a login leads.
    if !root.is_empty() || kind.scheme != "sftp" {
        set("root", format!("/{root}"));
    }
    Ok(options)
}

fn build<C>(options: &BTreeMap<String, String>) -> Result<Operator>
where
    C: Configurator + Default,
    C::Builder: Builder,
{
    // OpenDAL passes over an option that it does not know: a misspelt one would be lost.
    let known =
        serde_json::to_value(C::default()).map_err(|e| Error::new(Kind::Config, "the service's options are not known").because(e))?;
    let known: Vec<&String> = known.as_object().map(|o| o.keys().collect()).unwrap_or_default();
    if let Some(other) = options.keys().find(|key| !known.contains(key)) {
        let names: Vec<_> = known.iter().map(|k| k.as_str()).collect();
        return Err(Error::new(Kind::Config, format!("`url` has an option that the service does not know: {other:?}"))
            .hint(format!("known are: {}", names.join(", "))));
    }
    // The text of an error may quote an option's value, so it is not kept.
    let config = C::from_iter(options.clone()).map_err(|_| Error::new(Kind::Config, "an option of `url` has a value of the wrong kind"))?;
    Operator::from_config(config).map_err(|e| Error::new(Kind::Config, format!("the service refuses its options: {}", e.message())))
}

/// With our own HTTP client: TLS is ring's, as everywhere in Rowbound, and nothing is set for the whole process.
#[cfg(feature = "service-http")]
fn web(operator: Operator) -> Result<Operator> {
    use std::{sync::Arc, time::Duration};

    use opendal::HttpTransporter;
    use opendal_http_transport_reqwest::ReqwestTransport;
    use rustls_platform_verifier::BuilderVerifierExt;

    let failed = |e: Box<dyn std::error::Error + Send + Sync>| Error::new(Kind::Config, "cannot make an HTTP client").because(e);
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|b| b.with_platform_verifier())
        .map_err(|e| failed(e.into()))?
        .with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(Duration::from_secs(10))
        .build()
        .map_err(|e| failed(e.into()))?;
    let context = operator.context().clone().with_http_transport(HttpTransporter::new(ReqwestTransport::new(client)));
    Ok(operator.with_context(context))
}
