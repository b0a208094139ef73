//! A hook that is a command.
//!
//! In: deliveries. Out: `sh -c` has run with them on its standard input and ended with 0, or the error. Promise: no delivery is too large to be made, and
//! nothing of its process group outlives the call, however that ends.

use std::{
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rowbound::{
    FileName,
    follow::{BoxError, Delivery},
    plan::Hook,
};
use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::Child,
};

use super::{json, tail};

/// How much of what it says on standard error is kept, in characters.
const SAID: usize = 1_000;

/// The most of a value that a variable holds, in bytes. Linux takes 128 KiB for one variable (`MAX_ARG_STRLEN`) and has a limit for all of them together;
/// other systems have less. A path that a program opens is no longer than this (`PATH_MAX`).
const VALUE: usize = 4096;

/// How long standard error is still read when all of the group has ended: a process that has left the group may hold it.
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
        let child = command
            .stdin(Stdio::piped())
            .stdout(io::stderr())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| format!("cannot start sh: {e}"))?;
        let mut said = Vec::new();
        match talk(Group(child), self.timeout, &input, &mut said).await? {
            Some(status) if status.success() => Ok(()),
            // exit status: 1; signal: 9 (SIGKILL)
            Some(status) => Err(with(format!("ended with {status}"), &said)),
            None => Err(with(format!("took longer than {:?} and was killed", self.timeout), &said)),
        }
    }
}

/// A process group, by the child that leads it. All of it ends with this value: also when a call is given up half-way.
struct Group(Child);

impl Group {
    fn pid(&self) -> Option<Pid> {
        self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
    }

    /// Waits until its leader has ended, and leaves it unburied: until [`Group::bury`] its number belongs to this group and can be no other's.
    fn ended(&self) -> impl Future<Output = ()> + use<> {
        let pid = self.pid();
        async move {
            let Some(pid) = pid else { return };
            let unburied = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            // Its only other error is that there is no such child any more.
            let wait = move || while matches!(waitid(WaitId::Pid(pid), unburied), Err(Errno::INTR)) {};
            let _ = tokio::task::spawn_blocking(wait).await;
        }
    }

    fn kill(&self) {
        if let Some(pid) = self.pid() {
            // Nobody but its ended leader may be left.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }

    /// Kills all of it, and says how its leader ended.
    async fn bury(mut self) -> io::Result<ExitStatus> {
        self.kill();
        self.0.wait().await
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Writes its input, keeps the end of what it says, and waits for its end; then nothing of the group is left. `None`: its time was over before.
async fn talk(mut group: Group, time: Duration, input: &[u8], said: &mut Vec<u8>) -> io::Result<Option<ExitStatus>> {
    let (stdin, stderr) = (group.0.stdin.take(), group.0.stderr.take());
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
    let ended = tokio::time::timeout(time, group.ended());
    tokio::pin!(write, read, ended);
    let (mut written, mut silent) = (false, false);
    let in_time = loop {
        tokio::select! {
            done = &mut write, if !written => {
                written = true;
                done?;
            }
            () = &mut read, if !silent => silent = true,
            ended = &mut ended => break ended.is_ok(),
        }
    };
    let status = group.bury().await?;
    if !silent {
        // What has left the group may hold the pipe for ever.
        let _ = tokio::time::timeout(LINGER, &mut read).await;
    }
    Ok(in_time.then_some(status))
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

/// The simple case: one entry, without JSON. What an environment cannot hold is replaced, and what is too long is cut.
fn variables(d: &Delivery) -> Vec<(&'static str, String)> {
    let e = &d.entry;
    let values = [
        ("ROWBOUND_ID", &*d.id()),
        ("ROWBOUND_NAME", &e.name),
        ("ROWBOUND_STORAGE", &e.storage),
        ("ROWBOUND_OUTCOME", e.outcome.word()),
        ("ROWBOUND_COLUMN", d.column.as_deref().unwrap_or_default()),
        ("ROWBOUND_KEY", e.key.as_deref().unwrap_or_default()),
        ("ROWBOUND_EVENT", &e.event),
    ];
    let mut cut = Vec::new();
    let mut all: Vec<_> = values
        .into_iter()
        .map(|(variable, value)| {
            let mut text = value.replace('\0', "\u{fffd}");
            if text.len() > VALUE {
                text.truncate(text.floor_char_boundary(VALUE));
                cut.push(variable);
            }
            (variable, text)
        })
        .collect();
    // Always set, or that of a rowbound around ours would count.
    all.push(("ROWBOUND_CUT", cut.join(" ")));
    all.push(("ROWBOUND_NAME_URL", url_path(&e.name)));
    all
}

/// The name for the path of a URL. Empty where it would be cut, or is no file's name (`..` in a URL leads elsewhere): half a URL is another file's.
fn url_path(name: &str) -> String {
    match FileName::parse(name) {
        Ok(name) if name.as_str().len() <= VALUE => name.url_path(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use rowbound::plan::Call;
    use rowbound_testkit::wait_until;

    use super::{super::tests::delivery, *};

    const DEADLINE: Duration = Duration::from_secs(60);

    fn variable<'a>(all: &'a [(&'static str, String)], name: &str) -> &'a str {
        &all.iter().find(|(variable, _)| *variable == name).unwrap_or_else(|| panic!("{name} is not set")).1
    }

    #[test]
    fn a_variable_is_cut_between_characters_and_says_so() {
        let mut long = delivery(1, &"é".repeat(VALUE));
        long.entry.key = Some(format!("x{}", "日".repeat(VALUE)));
        long.entry.storage = "s".repeat(VALUE + 1);
        long.entry.event = "\0".repeat(VALUE);
        long.column = Some("c".repeat(VALUE));
        let all = variables(&long);
        assert_eq!(variable(&all, "ROWBOUND_CUT"), "ROWBOUND_NAME ROWBOUND_STORAGE ROWBOUND_KEY ROWBOUND_EVENT");
        assert_eq!(variable(&all, "ROWBOUND_NAME"), "é".repeat(VALUE / 2));
        assert_eq!(variable(&all, "ROWBOUND_KEY"), format!("x{}", "日".repeat(VALUE / 3)), "4096 bytes: 1 and 1365 times 3");
        assert_eq!(variable(&all, "ROWBOUND_COLUMN").len(), VALUE, "as long as may be");
        assert_eq!(variable(&all, "ROWBOUND_NAME_URL"), "", "no half URL");
        let longest = all.iter().map(|(_, value)| value.len()).max();
        assert_eq!(longest, Some(VALUE));
        assert_eq!(variable(&variables(&delivery(1, "a.jpg")), "ROWBOUND_CUT"), "");
    }

    #[test]
    fn the_url_is_whole_or_empty() {
        let url = |name: &str| variable(&variables(&delivery(1, name)), "ROWBOUND_NAME_URL").to_owned();
        assert_eq!(url("2026/a b#?&;'\"%.jpg"), "2026/a%20b%23%3F%26%3B%27%22%25.jpg");
        assert_eq!(url(&"é".repeat(VALUE / 2)), "%C3%A9".repeat(VALUE / 2), "what is not cut has its URL");
        assert_eq!(url(&"x".repeat(VALUE + 1)), "");
        for no_file in ["", "../x", "a/../b", "/a", "a//b", "a\0b"] {
            assert_eq!(url(no_file), "", "{no_file:?}");
        }
    }

    /// The call is given up half-way, as when the runtime ends: not only `sh` goes.
    #[tokio::test]
    async fn a_call_that_is_dropped_takes_its_group_along() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pids");
        // The second child is ended by neither the end of a pipe nor its parent's.
        let script =
            format!("sleep 1000 & a=$!; (trap '' HUP TERM; sleep 1001) & echo $a $! $$ > {0}.new; mv {0}.new {0}; wait", file.display());
        let hook = Hook::new(Call::Command(script.clone()));
        let command = Command::new(&hook, &script);
        let running = tokio::spawn(async move { command.call(&[delivery(1, "a.jpg")]).await });
        wait_until(DEADLINE, "the command does not start", || async { file.exists() }).await;
        let pids: Vec<u32> = fs::read_to_string(&file).unwrap().split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        assert_eq!(pids.len(), 3);
        assert!(pids.iter().all(|pid| lives(*pid)));
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        wait_until(DEADLINE, "some of the group live on", || async { !pids.iter().any(|pid| lives(*pid)) }).await;
    }

    /// Whether a process is there, and not only unburied.
    fn lives(pid: u32) -> bool {
        let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    }
}
