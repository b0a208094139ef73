//! A hook that is a URL.
//!
//! In: deliveries. Out: a POST that was answered with 2xx, or the error. Promise: no redirect is followed, and no answer is waited for longer than the
//! time limit.

use std::{sync::Arc, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::{Client, Response, StatusCode, header};
use rowbound::{
    Error, Kind, Result,
    follow::{BoxError, Delivery, Later},
    plan::Hook,
};
use rustls_platform_verifier::BuilderVerifierExt;
use sha2::Sha256;

use super::{json, tail};

/// How much of an answer's text an error keeps, in characters.
const SAID: usize = 300;

/// A URL that is called.
pub struct Webhook {
    client: Client,
    url: String,
    secret: Option<String>,
    single: bool,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Webhook")
    }
}

impl Webhook {
    pub fn new(hook: &Hook, url: &str, secret: Option<&str>) -> Result<Self> {
        let failed = |e: BoxError| Error::new(Kind::Config, "cannot make an HTTP client").with("hook", &hook.name).because(e);
        if let Err(e) = reqwest::Url::parse(url) {
            return Err(Error::new(Kind::Config, format!("`url` of a hook is no URL: {e}")).with("hook", &hook.name));
        }
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
        Ok(Webhook { client, url: url.to_owned(), secret: secret.map(str::to_owned), single: hook.batch == 1 })
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
        request = request.header("rowbound-hook", &first.follower).header("rowbound-delivery", first.id());
        if let Some(secret) = &self.secret {
            request = request.header("rowbound-signature", signature(secret.as_bytes(), &body)?);
        }
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

/// `sha256=` and HMAC-SHA256 of the body, in hexadecimal.
fn signature(secret: &[u8], body: &[u8]) -> Result<String, BoxError> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret)?;
    mac.update(body);
    Ok(mac.finalize().into_bytes().iter().fold("sha256=".to_owned(), |text, byte| format!("{text}{byte:02x}")))
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

    /// Test case 2 of RFC 4231.
    #[test]
    fn the_signature_is_hmac_sha256() {
        assert_eq!(
            signature(b"Jefe", b"what do ya want for nothing?").unwrap(),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
