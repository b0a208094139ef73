//! Chromium without a window, to see a page as people do.
//!
//! In: a page's URL, and what a person does there: clicks, types, chooses files. Out: what the browser computed, what it painted, what it asked the
//! network for. It is spoken to in the DevTools protocol over pipes: no port, no driver.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// How long the browser may take for an answer. The first one includes its start.
const DEADLINE: Duration = Duration::from_secs(60);

/// The lowest contrast of any text with what lies under it, and where: an expression for [`Browser::eval`]. WCAG's AA asks for 4.5 (1.4.3).
pub const CONTRAST: &str = r#"(() => {
  const rgba = text => text.match(/[\d.]+/g).map(Number);
  const light = c => { const f = c.slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * f[0] + .7152 * f[1] + .0722 * f[2]; };
  const ground = e => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  let worst = { ratio: 21, where: '' };
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    const [a, b] = [light(rgba(getComputedStyle(e).color)), light(ground(e))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < worst.ratio) worst = { ratio, where: e.outerHTML.slice(0, 200) };
  }
  return worst;
})()"#;

/// Whether all of a page is there.
const LOADED: &str = "document.readyState === 'complete'";

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
        self.wait_for(LOADED, DEADLINE).await;
    }

    /// Lets pages run scripts, or not, from the next page on. What tests ask by [`Browser::eval`] runs all the same.
    pub async fn scripts(&mut self, run: bool) {
        self.call("Emulation.setScriptExecutionDisabled", json!({ "value": !run })).await;
    }

    /// Clicks with the mouse in the middle of the first element that `selector` finds; of a text, in its first line.
    ///
    /// # Panics
    /// When there is none, or something else lies over it.
    pub async fn click(&mut self, selector: &str) {
        let place = self
            .eval(&format!(
                "(() => {{ const e = document.querySelector({}); if (!e) return 'is not there';
                e.scrollIntoView({{ block: 'center', behavior: 'instant' }});
                const b = e.getClientRects()[0], x = b.x + b.width / 2, y = b.y + b.height / 2, top = document.elementFromPoint(x, y);
                return e.contains(top) || top?.control === e ? {{ x, y }} : 'is covered by ' + top?.outerHTML.slice(0, 200); }})()",
                json!(selector)
            ))
            .await;
        assert!(place.is_object(), "{selector} {place}");
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": place["x"], "y": place["y"], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event).await;
        }
    }

    /// Clicks on what leads to another page (a link, a button that sends a form), and waits until all of that is loaded.
    pub async fn follow(&mut self, selector: &str) {
        // The next document has no such mark.
        self.eval("document.left = true").await;
        self.requests.clear();
        self.click(selector).await;
        self.wait_for(&format!("document.left === undefined && {LOADED}"), DEADLINE).await;
    }

    /// Types into a text field, in place of what stands there.
    pub async fn fill(&mut self, selector: &str, text: &str) {
        self.click(selector).await;
        self.eval(&format!("document.querySelector({}).select()", json!(selector))).await;
        match text {
            "" => {
                for kind in ["keyDown", "keyUp"] {
                    let key = json!({ "type": kind, "key": "Delete", "code": "Delete", "windowsVirtualKeyCode": 46 });
                    self.call("Input.dispatchKeyEvent", key).await;
                }
            }
            _ => drop(self.call("Input.insertText", json!({ "text": text })).await),
        }
    }

    /// Chooses files of this machine in a file input.
    pub async fn choose(&mut self, selector: &str, files: &[&Path]) {
        let ask = json!({ "expression": format!("document.querySelector({})", json!(selector)) });
        let input = self.call("Runtime.evaluate", ask).await["result"]["objectId"].take();
        assert!(input.is_string(), "{selector} is not there");
        self.call("DOM.setFileInputFiles", json!({ "files": files, "objectId": input })).await;
    }

    /// Waits until a JavaScript expression is true, in whichever page is there then.
    ///
    /// # Panics
    /// When `deadline` passes first, with what the page shows instead.
    pub async fn wait_for(&mut self, expression: &str, deadline: Duration) {
        let end = Instant::now() + deadline;
        let ask = json!({ "expression": expression, "returnByValue": true });
        // While a page gives way to another there is nobody to answer.
        while !self.ask("Runtime.evaluate", ask.clone()).await.is_ok_and(|answer| answer["result"]["value"] == true) {
            if Instant::now() > end {
                let shown = self.eval("location.href + '\\n' + document.body?.innerText").await;
                panic!("waited {deadline:?} in vain for {expression}\n{}", shown.as_str().unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
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

    /// All of the page, however long, as PNG in base64.
    pub async fn screenshot_of_all(&mut self) -> String {
        let size = self.call("Page.getLayoutMetrics", json!({})).await["cssContentSize"].take();
        let clip = json!({ "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1 });
        let answer = self.call("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": true, "clip": clip })).await;
        answer["data"].as_str().expect("a screenshot has data").to_owned()
    }

    /// URLs that the page asked for since it was opened, itself among them; of `data:` URIs only the beginning.
    pub fn requests(&self) -> &[String] {
        &self.requests
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.ask(method, params).await.unwrap_or_else(|e| panic!("{method}: {e}"))
    }

    /// What the browser answers, or why it refuses.
    async fn ask(&mut self, method: &str, params: Value) -> Result<Value, Value> {
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
                    return Ok(match answer["error"].take() {
                        Value::Null => Ok(answer["result"].take()),
                        error => Err(error),
                    });
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
