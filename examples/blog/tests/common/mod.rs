//! The real program on a port of its own, and what lies on its disk.
#![allow(dead_code, reason = "each test binary needs a part of it")]

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

/// A blog that runs. It is killed when this value is dropped.
pub struct Blog {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    /// `127.0.0.1:PORT`
    pub address: String,
}

impl Blog {
    /// Starts it on a free port; `folder` is where it keeps what no variable puts elsewhere.
    pub fn start(folder: &Path, env: &[(String, String)]) -> Blog {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rowbound-blog"));
        command.arg("0").arg(folder).stdin(Stdio::null()).stdout(Stdio::piped());
        // Nothing of the developer's own shell may decide what a test sees.
        for name in ["DATABASE_URL", "ROWBOUND_STORAGE", "PORT", "RUST_LOG"] {
            command.env_remove(name);
        }
        let mut child = command.envs(env.iter().cloned()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").unwrap_or_else(|| panic!("it says where it is, not {line:?}")).to_owned();
        Blog { child, _stdout: stdout, address }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Asks it to stop (SIGTERM), and waits for its end.
    pub fn stop(mut self) {
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }

    /// One request, as it is, and the whole answer.
    pub fn send(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(request).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer has a head");
        let body = bytes.split_off(end + 4);
        let head = String::from_utf8(bytes).unwrap().to_lowercase();
        Answer { status: head["http/1.1 ".len()..][..3].parse().unwrap(), head, body }
    }

    pub fn get(&self, path: &str, headers: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n", self.address).as_bytes())
    }

    /// Sends an upload form; each part has a name, a file's name or none, and bytes.
    pub fn post(&self, path: &str, headers: &str, parts: &[(&str, Option<&str>, &[u8])]) -> Answer {
        let mut body = Vec::new();
        for (name, file, bytes) in parts {
            let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
            body.extend(format!("--X\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").into_bytes());
            body.extend_from_slice(bytes);
            body.extend(b"\r\n");
        }
        body.extend(b"--X--\r\n");
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=X\r\nContent-Length: {}\r\n{headers}\r\n",
            self.address,
            body.len()
        );
        self.send(&[head.as_bytes(), &body].concat())
    }
}

impl Drop for Blog {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it has ended by itself
        let _ = self.child.wait();
    }
}

/// What came back. The head is in small letters.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Every file beneath a folder, but Rowbound's own.
pub fn files(folder: &Path) -> BTreeSet<String> {
    fn walk(root: &Path, at: &Path, into: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true if path == root.join(".rowbound") => {}
                true => walk(root, &path, into),
                false => drop(into.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned())),
            }
        }
    }
    let mut all = BTreeSet::new();
    walk(folder, folder, &mut all);
    all
}

/// Waits until something is so.
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
