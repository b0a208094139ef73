//! A hook that is a URL.
//!
//! In: deliveries. Out: a POST that was answered with 2xx, or the error. Promise: no redirect is followed, no answer is waited for longer than the
//! time limit, and each call has headers as Standard Webhooks 1.0 wants them (<https://www.standardwebhooks.com>), signed where there is a secret.

use std::{sync::Arc, time::Duration};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::{Client, Response, StatusCode, header};
use rowbound::{
    Error, Kind, Result,
    follow::{BoxError, Delivery, Later},
    plan::Hook,
};
use rustls_platform_verifier::BuilderVerifierExt;
use sha2::{Digest, Sha256};

use super::{json, tail};

/// How much of an answer's text an error keeps, in characters.
const SAID: usize = 300;

/// What a secret begins with that is base64.
const PREFIX: &str = "whsec_";

/// Signatures and secrets. Padding is written, and not missed: tools that make keys leave it out.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// A URL that is called.
pub struct Webhook {
    client: Client,
    url: String,
    keys: Vec<Vec<u8>>,
    single: bool,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Webhook")
    }
}

impl Webhook {
    pub fn new(hook: &Hook, url: &str, secrets: &[String]) -> Result<Self> {
        let failed = |e: BoxError| Error::new(Kind::Config, "cannot make an HTTP client").with("hook", &hook.name).because(e);
        if let Err(e) = reqwest::Url::parse(url) {
            return Err(Error::new(Kind::Config, format!("`url` of a hook is no URL: {e}")).with("hook", &hook.name));
        }
        let keys = secrets.iter().map(|secret| {
            key(secret).ok_or_else(|| {
                Error::new(Kind::Config, "`secret` of a hook begins with whsec_, and is no base64 after it")
                    .with("hook", &hook.name)
                    .hint("echo \"whsec_$(openssl rand -base64 32)\" makes one; a secret without whsec_ may be any text")
            })
        });
        let keys = keys.collect::<Result<_>>()?;
        // TLS is ring's, as everywhere in Rowbound, and nothing is set for the whole process.
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|b| b.with_platform_verifier())
            .map_err(|e| failed(e.into()))?
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(hook.timeout.min(Duration::from_secs(10)))
            .timeout(hook.timeout)
            .user_agent(concat!("rowbound/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| failed(e.into()))?;
        Ok(Webhook { client, url: url.to_owned(), keys, single: hook.batch == 1 })
    }

    /// Calls it once.
    pub async fn call(&self, deliveries: &[Delivery]) -> Result<(), BoxError> {
        let Some(first) = deliveries.first() else { return Ok(()) };
        let mut body = json(deliveries, false)?;
        if !self.single {
            body.insert(0, b'[');
            body.push(b']');
        }
        let mut request = self.client.post(&self.url).header(header::CONTENT_TYPE, "application/json");
        // The moment of this try, not of the first: a receiver refuses what is old.
        let (id, at) = (id(first, deliveries), Timestamp::now().as_second());
        if !self.keys.is_empty() {
            let signatures = self.keys.iter().map(|key| signature(key, &id, at, &body)).collect::<Result<Vec<_>, _>>()?;
            request = request.header("webhook-signature", signatures.join(" "));
        }
        request = request.header("webhook-id", id).header("webhook-timestamp", at).header("rowbound-hook", &first.follower);
        // Its text may quote the URL, which may be a secret.
        let answer = request.body(body).send().await.map_err(reqwest::Error::without_url)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let after =
            matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE).then(|| retry_after(&answer)).flatten();
        let mut why = format!("answered {status}");
        if status.is_redirection() {
            why.push_str(", and redirects are not followed");
        }
        let said = beginning(answer).await;
        if !said.is_empty() {
            why = format!("{why}: {said}");
        }
        Err(match after {
            Some(after) => Box::new(Later { after, why }),
            None => why.into(),
        })
    }
}

/// The id of a call, the same at each try: the delivery's, or, of several, one that only these have together. A receiver remembers ids, and must not take a
/// list for another one that it knows, of which a crash has made it hear with fewer or more in it.
fn id(first: &Delivery, deliveries: &[Delivery]) -> String {
    if deliveries.len() == 1 {
        return first.id();
    }
    let mut hash = Sha256::new();
    for delivery in deliveries {
        hash.update(delivery.entry.id.to_be_bytes());
    }
    let hash: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{hash}", first.id())
}

/// The bytes of a secret; `None`: it should be base64, and is not.
fn key(secret: &str) -> Option<Vec<u8>> {
    match secret.strip_prefix(PREFIX) {
        Some(encoded) => BASE64.decode(encoded).ok().filter(|key| !key.is_empty()),
        None => Some(secret.as_bytes().to_vec()),
    }
}

/// `v1,` and the HMAC-SHA256 of id, time and body, in base64.
fn signature(key: &[u8], id: &str, at: i64, body: &[u8]) -> Result<String, BoxError> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key)?;
    mac.update(format!("{id}.{at}.").as_bytes());
    mac.update(body);
    Ok(format!("v1,{}", BASE64.encode(mac.finalize().into_bytes())))
}

/// Seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(answer: &Response) -> Option<Duration> {
    let text = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default())
}

/// The beginning of an answer's text; the whole may be of any length.
async fn beginning(mut answer: Response) -> String {
    let mut text = Vec::new();
    while text.len() < SAID * 4 {
        match answer.chunk().await {
            Ok(Some(more)) => text.extend_from_slice(&more),
            _ => break,
        }
    }
    let text: String = String::from_utf8_lossy(&text).chars().take(SAID).collect();
    tail(text.as_bytes(), SAID)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's libraries; the second was computed with Python's `hmac`.
    #[test]
    fn the_signature_is_that_of_standard_webhooks() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(
            signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#).unwrap(),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert_eq!(signature(b"Jefe", "site-17", 1_614_265_330, b"{}").unwrap(), "v1,UEg4LdogtKnjBEvfJJZUReACw7llONiTjQIBt6keRlw=");
    }

    #[test]
    fn a_secret_is_base64_or_its_own_bytes() {
        assert_eq!(key("Jefe").unwrap(), b"Jefe");
        assert_eq!(key("whsec_SmVmZQ==").unwrap(), b"Jefe");
        assert_eq!(key("whsec_SmVmZQ").unwrap(), b"Jefe", "padding is not missed");
        for broken in ["whsec_", "whsec_a b", "whsec_\u{e4}", "whsec_S"] {
            assert_eq!(key(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_list_has_an_id_of_its_own() {
        let of = |ids: &[i64]| {
            let all: Vec<_> = ids.iter().map(|id| super::super::tests::delivery(*id, "a.jpg")).collect();
            id(&all[0], &all)
        };
        assert_eq!(of(&[17]), "cdn-17");
        assert!(of(&[17, 18]).starts_with("cdn-17-"));
        assert_eq!(of(&[17, 18]), of(&[17, 18]));
        let all = [of(&[17]), of(&[17, 18]), of(&[17, 18, 20]), of(&[17, 19, 20]), of(&[17, 20])];
        assert_eq!(std::collections::BTreeSet::from(all.clone()).len(), all.len(), "{all:?}");
    }
}
