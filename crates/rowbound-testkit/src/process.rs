//! The real `rowbound` binary: run to its end, or watched, stopped and killed.

use std::{
    ffi::OsStr,
    fs::File,
    io::Read,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};

use crate::{Backend, trace::Trace, world::World};

/// The binary with the configuration of a world.
#[derive(Debug, Clone)]
pub struct Rowbound {
    binary: PathBuf,
    before: Vec<String>,
    config: PathBuf,
    env: Vec<(String, String)>,
    user: Option<u32>,
    trace: Option<Trace>,
    shared: bool,
}

/// What a finished process left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit status; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Insists on an exit status.
    ///
    /// # Panics
    /// With both outputs when it was another.
    pub fn expect(self, code: i32) -> Output {
        assert_eq!(
            self.code,
            Some(code),
            "exit status (signal {:?})\n--- stdout\n{}\n--- stderr\n{}",
            self.signal,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{e} (status {:?})\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout, self.stderr))
    }
}

impl Rowbound {
    /// `binary` is `env!("CARGO_BIN_EXE_rowbound")` of the calling test. Writes the world's plan as `rowbound.toml`.
    pub fn new(binary: impl AsRef<Path>, world: &World) -> Rowbound {
        Rowbound {
            binary: binary.as_ref().to_owned(),
            before: Vec::new(),
            config: world.write_config(),
            env: Vec::new(),
            user: None,
            trace: world.trace.clone(),
            shared: matches!(world.db.backend(), Backend::Mariadb | Backend::Mysql),
        }
    }

    /// Runs it as another user and group (root may), from a copy within the world, because the binary may lie where only root can go. The world is to
    /// be that user's: see [`World::give_to`].
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn as_user(mut self, uid: u32) -> Rowbound {
        let copy = self.config.with_file_name("rowbound-binary");
        if !copy.exists() {
            let fresh = self.config.with_file_name(format!(".{:016x}", rand::random::<u64>()));
            // By another process: one that we fork meanwhile would hold the copy open for writing, and nobody may start it then.
            let copied = std::process::Command::new("cp").arg(&self.binary).arg(&fresh).status().expect("cannot run cp");
            assert!(copied.success(), "cannot copy the binary");
            std::fs::rename(&fresh, &copy).expect("cannot copy the binary");
        }
        (self.binary, self.user) = (copy, Some(uid));
        self
    }

    /// Sets an environment variable, for example `ROWBOUND_CRASH_AT`.
    pub fn env(mut self, name: &str, value: &str) -> Rowbound {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Arguments that come before all others: for a `binary` that starts the real one.
    pub fn before(mut self, args: &[&str]) -> Rowbound {
        self.before.extend(args.iter().map(|a| (*a).to_owned()));
        self
    }

    /// The process waits at a crash point, `point` or `point:nth`, until the test lets it go on.
    ///
    /// # Panics
    /// When the world's folder has a name that is not text.
    pub fn held_at(self, point: &str) -> (Rowbound, Place) {
        let file = self.config.with_file_name(format!("place-{:016x}", rand::random::<u64>()));
        let place = Place { point: point.to_owned(), file: file.clone() };
        let file = file.to_str().expect("a temporary folder's name is text").to_owned();
        (self.env("ROWBOUND_WAIT_AT", point).env("ROWBOUND_WAIT_FILE", &file), place)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(&self.before)
            .args(args)
            .arg("--config")
            .arg(&self.config)
            // Nothing of the developer's own shell may decide what a test sees.
            .env_remove("DATABASE_URL")
            .env_remove("RUST_LOG")
            .env("NO_COLOR", "1")
            // What has no trash is held for a moment only.
            .env("ROWBOUND_HOLD", "1000")
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// Runs a command to its end, at most two minutes. On MariaDB and MySQL the barriers wait for the transactions of all databases of a server, those of
    /// other tests too: a `collect` has the patience for that, unless it has one of its own or a time for all (`--wait`).
    ///
    /// # Panics
    /// When it cannot be started or does not end.
    pub async fn run(&self, args: &[&str]) -> Output {
        let patient = self.shared && args.first() == Some(&"collect") && !args.iter().any(|a| ["--patience", "--wait"].contains(a));
        let running = match patient {
            true => self.spawn(&[args, &["--patience", "40s"]].concat()),
            false => self.spawn(args),
        };
        running.wait(Duration::from_secs(120)).await
    }

    /// Runs a command to its end, at most two minutes, on a terminal of so many columns. What it prints there, on either output, comes back as `stdout`.
    ///
    /// # Panics
    /// When it cannot be started or does not end.
    pub async fn run_on_terminal(&self, args: &[&str], columns: u16) -> Output {
        use rustix::{pty, termios};
        let ours = pty::openpt(pty::OpenptFlags::RDWR | pty::OpenptFlags::NOCTTY | pty::OpenptFlags::CLOEXEC).expect("a terminal");
        pty::grantpt(&ours).and_then(|()| pty::unlockpt(&ours)).expect("a terminal that can be opened");
        let name = pty::ptsname(&ours, Vec::new()).expect("its name");
        termios::tcsetwinsize(&ours, termios::Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).expect("its size");
        let theirs = || File::options().read(true).write(true).open(OsStr::from_bytes(name.as_bytes())).expect("their end of it");
        let mut command = self.command(args);
        command.stdout(theirs()).stderr(theirs());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {} {}: {e}", self.binary.display(), args.join(" ")));
        // Their end is closed with the process: then reading ours fails.
        drop(command);
        let reader = tokio::task::spawn_blocking(move || {
            let (mut ours, mut said, mut some) = (File::from(ours), Vec::new(), [0; 4096]);
            while let Ok(n) = ours.read(&mut some)
                && n > 0
            {
                said.extend_from_slice(&some[..n]);
            }
            said
        });
        let status = match tokio::time::timeout(Duration::from_secs(120), child.wait()).await {
            Ok(status) => status.expect("cannot wait for our own child"),
            Err(_) => panic!("`{}` did not end on its terminal", args.join(" ")),
        };
        let said = reader.await.expect("the reader panicked");
        // A terminal begins each line anew.
        let stdout = String::from_utf8_lossy(&said).replace("\r\n", "\n");
        use std::os::unix::process::ExitStatusExt;
        Output { code: status.code(), signal: status.signal(), stdout, stderr: String::new() }
    }

    /// Starts a command and lets it run.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        let trace = self.trace.clone().map(|trace| {
            let file = trace.process();
            command.env("ROWBOUND_TRACE", &file);
            (trace, file)
        });
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {} {}: {e}", self.binary.display(), args.join(" ")));
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let readers = vec![
            collect(child.stdout.take().expect("stdout is piped"), Arc::clone(&stdout)),
            collect(child.stderr.take().expect("stderr is piped"), Arc::clone(&stderr)),
        ];
        Running { child, stdout, stderr, readers, what: args.join(" "), trace }
    }
}

fn collect(from: impl AsyncRead + Unpin + Send + 'static, into: Arc<Mutex<String>>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut reader = BufReader::new(from);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).await.is_ok_and(|n| n > 0) {
            into.lock().expect("a reader panicked").push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

/// A place in a process at which it waits until a test lets it go on.
#[derive(Debug)]
pub struct Place {
    point: String,
    file: PathBuf,
}

impl Place {
    /// Whether the process waits there now.
    pub fn is_reached(&self) -> bool {
        self.file.exists()
    }

    /// Waits until the process waits there.
    ///
    /// # Panics
    /// When `deadline` passes first, with what the process said.
    pub async fn reached(&self, by: &Running, deadline: Duration) {
        by.until(deadline, &format!("{} was not reached", self.point), || async { self.is_reached() }).await;
    }

    /// Waits until the process waits there (`true`), or has ended without.
    ///
    /// # Panics
    /// When `deadline` passes first, with what the process said.
    pub async fn reached_or_ended(&self, by: &mut Running, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        loop {
            // In this order: a process at its place does not end.
            let ended = by.child.try_wait().expect("cannot wait for our own child").is_some();
            if ended || self.is_reached() {
                return self.is_reached();
            }
            assert!(
                Instant::now() < end,
                "waited {deadline:?} in vain: {} was not reached. `{}` said:\n{}",
                self.point,
                by.what,
                by.said()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Lets the process go on.
    ///
    /// # Panics
    /// When it does not wait.
    pub fn let_go(&self) {
        std::fs::remove_file(&self.file).unwrap_or_else(|e| panic!("nobody waits at {}: {e}", self.point));
    }
}

/// A process that runs. It is killed when this value is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    what: String,
    trace: Option<(Trace, PathBuf)>,
}

impl Running {
    /// Its process id.
    ///
    /// # Panics
    /// When it has been waited for.
    pub fn id(&self) -> u32 {
        self.child.id().expect("the process has ended")
    }

    /// What it said so far on both outputs: stdout, then stderr.
    pub fn said(&self) -> String {
        let text = |of: &Mutex<String>| of.lock().expect("a reader panicked").clone();
        format!("{}{}", text(&self.stdout), text(&self.stderr))
    }

    /// Waits for a line that holds `text`, on either output.
    ///
    /// # Panics
    /// When `deadline` passes first, with what it said instead.
    pub async fn wait_for_line(&self, text: &str, deadline: Duration) {
        self.until(deadline, &format!("no line holds {text:?}"), || async { self.said().lines().any(|line| line.contains(text)) }).await;
    }

    /// Asks it to stop (SIGTERM).
    pub fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Presses Ctrl-C (SIGINT).
    pub fn interrupt(&self) {
        self.signal(rustix::process::Signal::INT);
    }

    /// Stops it where it stands (SIGSTOP), as a virtual machine's pause does.
    pub fn pause(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// Lets it go on after that (SIGCONT).
    pub fn resume(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    /// Kills it (SIGKILL).
    pub fn kill(&self) {
        self.signal(rustix::process::Signal::KILL);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("cannot signal our own child");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When `deadline` passes first.
    pub async fn wait(mut self, deadline: Duration) -> Output {
        let status = match tokio::time::timeout(deadline, self.child.wait()).await {
            Ok(status) => status.expect("cannot wait for our own child"),
            Err(_) => panic!("`{}` did not end within {deadline:?}. It said:\n{}", self.what, self.said()),
        };
        for reader in std::mem::take(&mut self.readers) {
            reader.await.expect("a reader panicked");
        }
        let text = |of: &Mutex<String>| of.lock().expect("a reader panicked").clone();
        use std::os::unix::process::ExitStatusExt;
        if let Some((trace, file)) = &self.trace {
            trace.ended(file, status.signal().is_some());
        }
        Output { code: status.code(), signal: status.signal(), stdout: text(&self.stdout), stderr: text(&self.stderr) }
    }

    /// Waits until the world is as wanted while the process runs.
    ///
    /// # Panics
    /// When it does not become so within `deadline`, with what the process said.
    pub async fn until<F, Fut>(&self, deadline: Duration, what: &str, mut happened: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = bool>,
    {
        let end = Instant::now() + deadline;
        while !happened().await {
            if Instant::now() > end {
                panic!("waited {deadline:?} in vain: {what}. `{}` said:\n{}", self.what, self.said());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
