//! A hook that is a command.
//!
//! In: deliveries. Out: `sh -c` has run with them on its standard input and ended with 0, or the error. Promise: nothing of it outlives its time limit.

use std::{io, process::Stdio, time::Duration};

use rowbound::{
    follow::{BoxError, Delivery},
    plan::Hook,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::Child,
};

use super::{json, tail};

/// How much of what it says on standard error is kept, in characters.
const SAID: usize = 1_000;

/// How long standard error is still read when the command has ended: a process that it left behind may hold it.
const LINGER: Duration = Duration::from_millis(200);

/// A command.
#[derive(Debug)]
pub struct Command {
    name: String,
    command: String,
    single: bool,
    timeout: Duration,
}

impl Command {
    pub fn new(hook: &Hook, command: &str) -> Self {
        Command { name: hook.name.clone(), command: command.to_owned(), single: hook.batch == 1, timeout: hook.timeout }
    }

    /// Runs it once.
    pub async fn call(&self, deliveries: &[Delivery]) -> Result<(), BoxError> {
        let input = json(deliveries, true)?;
        let mut command = tokio::process::Command::new("sh");
        command.arg("-c").arg(&self.command).env("ROWBOUND_HOOK", &self.name);
        if self.single
            && let [delivery] = deliveries
        {
            command.envs(variables(delivery));
        }
        // What it prints is talk to us, not an answer of ours. A group of its own: Ctrl-C is not for it, and all of it can be ended.
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(io::stderr())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| format!("cannot start sh: {e}"))?;
        let group = Group(child.id());
        let mut said = Vec::new();
        let ended = tokio::time::timeout(self.timeout, talk(&mut child, &input, &mut said)).await;
        let status = match ended {
            Ok(status) => status?,
            Err(_) => {
                group.kill();
                let _ = child.wait().await;
                return Err(with(format!("took longer than {:?} and was killed", self.timeout), &said));
            }
        };
        if status.success() {
            return Ok(());
        }
        // exit status: 1; signal: 9 (SIGKILL)
        Err(with(format!("ended with {status}"), &said))
    }
}

/// A process group.
struct Group(Option<u32>);

impl Group {
    fn kill(&self) {
        let pid = self.0.and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended in this moment.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Writes its input, keeps the end of what it says, and waits for its end.
async fn talk(child: &mut Child, input: &[u8], said: &mut Vec<u8>) -> io::Result<std::process::ExitStatus> {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A command need not read it.
            match stdin.write_all(input).await {
                Err(e) if e.kind() != io::ErrorKind::BrokenPipe => return Err(e),
                _ => {}
            }
        }
        Ok(())
    };
    let read = async {
        if let Some(stderr) = stderr {
            keep_end(stderr, said).await;
        }
    };
    tokio::pin!(write, read);
    let (mut written, mut silent) = (false, false);
    let status = loop {
        tokio::select! {
            done = &mut write, if !written => {
                written = true;
                done?;
            }
            () = &mut read, if !silent => silent = true,
            status = child.wait() => break status,
        }
    };
    if !silent {
        // What it left behind may hold the pipe for ever.
        let _ = tokio::time::timeout(LINGER, &mut read).await;
    }
    status
}

async fn keep_end(mut from: impl AsyncRead + Unpin, said: &mut Vec<u8>) {
    let mut piece = [0; 4096];
    loop {
        match from.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(n) => {
                said.extend_from_slice(&piece[..n]);
                if said.len() > SAID * 16 {
                    said.drain(..said.len() - SAID * 8);
                }
            }
        }
    }
}

fn with(what: String, said: &[u8]) -> BoxError {
    match tail(said, SAID) {
        said if said.is_empty() => what.into(),
        said => format!("{what}: {said}").into(),
    }
}

/// The simple case: one entry, without JSON. What an environment cannot hold is replaced.
fn variables(d: &Delivery) -> [(&'static str, String); 7] {
    let e = &d.entry;
    let text = |text: &str| text.replace('\0', "\u{fffd}");
    [
        ("ROWBOUND_ID", d.id()),
        ("ROWBOUND_NAME", text(&e.name)),
        ("ROWBOUND_STORAGE", text(&e.storage)),
        ("ROWBOUND_OUTCOME", e.outcome.word().to_owned()),
        ("ROWBOUND_COLUMN", d.column.as_deref().map(text).unwrap_or_default()),
        ("ROWBOUND_KEY", e.key.as_deref().map(text).unwrap_or_default()),
        ("ROWBOUND_EVENT", text(&e.event)),
    ]
}
