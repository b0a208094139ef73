//! Chromium without a window, to see a page as people do.
//!
//! In: a page's URL. Out: what the browser computed, what it painted, what it asked the network for. It is spoken to in the DevTools protocol over
//! pipes: no port, no driver.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// How long the browser may take for an answer. The first one includes its start.
const DEADLINE: Duration = Duration::from_secs(60);

/// A browser with one page. It is killed, and its profile removed, when this value is dropped.
#[derive(Debug)]
pub struct Browser {
    _process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    profile: tempfile::TempDir,
    session: Option<String>,
    last: u64,
    requests: Vec<String>,
}

/// How a page is looked at.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// The window's width, in CSS pixels.
    pub width: u32,
    /// Its height.
    pub height: u32,
    /// Whether the person prefers dark pages.
    pub dark: bool,
}

impl Browser {
    /// Starts Chromium: `$CHROMIUM`, or what Debian and others call it.
    ///
    /// # Panics
    /// When there is none, or it does not start.
    pub async fn start() -> Browser {
        let program = program().expect("there is no Chromium: run `make test`, or scripts/chromium");
        let profile = tempfile::Builder::new().prefix("rowbound-browser.").tempdir().expect("cannot make a temporary folder");
        let log = std::fs::File::create(profile.path().join("log")).expect("cannot make the browser's log");
        // Chromium reads commands from descriptor 3 and answers on 4.
        let mut process = Command::new("/bin/sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>&2"])
            .arg(&program)
            .args([
                "--headless",
                "--remote-debugging-pipe",
                // Tests run as root in containers, where the sandbox cannot be had; the pages are our own.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
                "--hide-scrollbars",
                "--force-color-profile=srgb",
            ])
            .arg(format!("--user-data-dir={}", profile.path().join("profile").display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {}: {e}", program.display()));
        let to = process.stdin.take().expect("stdin is piped");
        let from = BufReader::new(process.stdout.take().expect("stdout is piped"));
        let mut browser = Browser { _process: process, to, from, profile, session: None, last: 0, requests: Vec::new() };
        let page = browser.call("Target.createTarget", json!({ "url": "about:blank" })).await;
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": page["targetId"], "flatten": true })).await;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page.enable", "Network.enable", "Runtime.enable"] {
            browser.call(domain, json!({})).await;
        }
        browser
    }

    /// Opens a page and waits until all of it is loaded.
    pub async fn open(&mut self, url: &str, view: View) {
        let metrics = json!({ "width": view.width, "height": view.height, "deviceScaleFactor": 1, "mobile": view.width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
        let scheme = if view.dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", media).await;
        self.requests.clear();
        let opened = self.call("Page.navigate", json!({ "url": url })).await;
        assert!(opened["errorText"].is_null(), "{url}: {opened}");
        let loaded = "new Promise(done => document.readyState === 'complete' ? done(true) : addEventListener('load', () => done(true)))";
        self.eval(loaded).await;
    }

    /// The value of a JavaScript expression in the page; a promise is waited for. The page's own policy does not forbid it.
    ///
    /// # Panics
    /// When it throws.
    pub async fn eval(&mut self, expression: &str) -> Value {
        let ask = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.call("Runtime.evaluate", ask).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].take()
    }

    /// What is painted in the window, as PNG in base64.
    pub async fn screenshot(&mut self) -> String {
        let answer = self.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        answer["data"].as_str().expect("a screenshot has data").to_owned()
    }

    /// URLs that the page asked for since it was opened, itself among them; of `data:` URIs only the beginning.
    pub fn requests(&self) -> &[String] {
        &self.requests
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let id = self.last;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        let asked = async {
            self.to.write_all(&bytes).await?;
            self.to.flush().await?;
            loop {
                let mut answer = Vec::new();
                if self.from.read_until(0, &mut answer).await? == 0 {
                    return Err(std::io::Error::other("it ended"));
                }
                answer.pop();
                let mut answer: Value = serde_json::from_slice(&answer)?;
                if answer["method"] == "Network.requestWillBeSent" {
                    let url = answer["params"]["request"]["url"].as_str().unwrap_or_default();
                    self.requests.push(url.chars().take(200).collect());
                }
                if answer["id"] == id {
                    assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                    return Ok(answer["result"].take());
                }
            }
        };
        match tokio::time::timeout(DEADLINE, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(e)) => panic!("{method}: the browser: {e}\n{}", log(self.profile.path())),
            Err(_) => panic!("{method}: no answer within {DEADLINE:?}\n{}", log(self.profile.path())),
        }
    }
}

fn log(profile: &Path) -> String {
    let text = std::fs::read_to_string(profile.join("log")).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CHROMIUM") {
        return Some(named.into());
    }
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| path.is_file())
}
