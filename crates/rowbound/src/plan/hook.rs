//! Hooks: a command or a webhook that is called after a deletion.
//!
//! In: the fields of a `[[hook]]`, or a command or URL alone. Out: a checked [`Hook`]. Promise: a secret is never shown.

use std::{fmt, time::Duration};

use crate::{
    delivery::{DEFAULT_OUTCOMES, check_name},
    error::{Error, Kind, Result},
    queue::Outcome,
};

/// The most entries that a hook gets at once.
const BATCH: u32 = 1_000;

/// The longest command, in bytes: half of what Linux takes as one argument.
const COMMAND: usize = 64 * 1024;

/// What is called.
#[derive(Clone, PartialEq, Eq)]
pub enum Call {
    /// `sh -c` with this, the entry on its standard input.
    Command(String),
    /// A POST to this URL.
    Webhook {
        /// `http://` or `https://`.
        url: String,
        /// What a call is signed with, by each of them; by none, and it is not signed. Base64 after `whsec_`, or the key's own bytes.
        secrets: Vec<String>,
    },
}

impl Call {
    /// What is called, as messages show it: what could be a secret is left out.
    pub fn shown(&self) -> String {
        match self {
            // `${TOKEN}` stands in it as what it means.
            Call::Command(command) => match command.trim().split_once(char::is_whitespace) {
                None if !command.contains('=') => command.trim().to_owned(),
                Some((program, _)) if !program.contains('=') => format!("{program} .."),
                _ => "a command".to_owned(),
            },
            Call::Webhook { url, .. } => {
                // Not only a password is one: so is the path of many a service's webhooks.
                let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
                let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
                format!("{scheme}://{}", host.rsplit_once('@').map_or(host, |(_, host)| host))
            }
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// Something that is called for each entry of the ledger that it hears of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Its name: the follower's under which the database remembers what it has yet to hear.
    pub name: String,
    /// What is called.
    pub call: Call,
    /// The outcomes that it receives. Default: [`DEFAULT_OUTCOMES`].
    pub outcomes: Vec<Outcome>,
    /// How many entries it gets at once at most. Default: 1.
    pub batch: u32,
    /// How long a call may take. Default: 30 s.
    pub timeout: Duration,
}

impl Hook {
    /// A hook with the defaults and a name made of what it calls, which stays the same as long as that does.
    pub fn new(call: Call) -> Self {
        let (kind, text) = match &call {
            Call::Command(command) => ("hook", command),
            Call::Webhook { url, .. } => ("webhook", url),
        };
        // FNV-1a: the same in every build.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        Hook {
            name: format!("{kind}-{:08x}", (hash ^ (hash >> 32)) & 0xffff_ffff),
            call,
            outcomes: DEFAULT_OUTCOMES.to_vec(),
            batch: 1,
            timeout: Duration::from_secs(30),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let bad = |why: &str| Error::new(Kind::Config, why.to_owned()).with("hook", &self.name);
        check_name(&self.name)?;
        match &self.call {
            Call::Command(command) if command.trim().is_empty() => return Err(bad("`command` is empty")),
            Call::Command(command) if command.contains('\0') => return Err(bad("`command` holds a NUL")),
            Call::Command(command) if command.len() > COMMAND => {
                return Err(bad("`command` is longer than 64 KiB").hint("write it into a file, and call that"));
            }
            Call::Webhook { url, .. } if !url.starts_with("https://") && !url.starts_with("http://") => {
                return Err(bad("`url` of a hook begins with neither https:// nor http://"));
            }
            Call::Webhook { secrets, .. } if secrets.iter().any(String::is_empty) => {
                return Err(bad("`secret` is empty").hint("leave it out where nothing is to be signed"));
            }
            _ => {}
        }
        if self.outcomes.is_empty() {
            return Err(bad("`outcomes` is empty: the hook would receive nothing"));
        }
        if self.batch == 0 || self.batch > BATCH {
            return Err(bad("`batch` is out of range").with("batch", self.batch).hint(format!("write 1 to {BATCH}")));
        }
        if self.timeout.is_zero() {
            return Err(bad("`timeout` has no length"));
        }
        Ok(())
    }
}

/// Checks hooks, each and together.
///
/// # Errors
/// [`Kind::Config`] names hook, field and value.
pub fn check_hooks(hooks: &[Hook]) -> Result<()> {
    for (i, hook) in hooks.iter().enumerate() {
        hook.check()?;
        if hooks[..i].iter().any(|h| h.name == hook.name) {
            return Err(Error::new(Kind::Config, "two hooks have the same name")
                .with("hook", &hook.name)
                .hint("give one of them another `name`"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::plan::Plan;

    fn hooks(text: &str) -> Result<Vec<Hook>> {
        let text = format!("database = \"sqlite:x\"\n[storage.default]\nurl = \"folder:m\"\n[[binding]]\ncolumn = \"t.f\"\n{text}");
        Ok(Plan::parse(&text, Path::new("/"), None, &|_| Some("s3cret".to_owned()))?.hooks)
    }

    #[test]
    fn a_hook_is_a_command_or_a_url() {
        let both = hooks("[[hook]]\ncommand = \"x\"\n[[hook]]\nname = \"site\"\nurl = \"https://u:p@h/t?q\"\nsecret = \"${S}\"\noutcomes = \"purged\"\nbatch = 50\ntimeout = \"5s\"")
            .unwrap();
        assert_eq!(
            (&both[0].outcomes[..], both[0].batch, both[0].timeout.as_secs()),
            (&[Outcome::Trashed, Outcome::Erased, Outcome::Missing][..], 1, 30)
        );
        assert_eq!(both[0].name, Hook::new(Call::Command("x".into())).name, "stable, or what waits would be lost from sight");
        assert_eq!((&*both[1].name, &both[1].outcomes[..], both[1].batch), ("site", &[Outcome::Purged][..], 50));
        assert_eq!(both[1].call, Call::Webhook { url: "https://u:p@h/t?q".into(), secrets: vec!["s3cret".into()] });
        let rotated = hooks("[[hook]]\nurl = \"http://x\"\nsecret = [\"new\", \"old\"]").unwrap();
        assert_eq!(rotated[0].call, Call::Webhook { url: "http://x".into(), secrets: vec!["new".into(), "old".into()] });
        assert_eq!(format!("{:?}", both[1].call), "https://h", "no secret is shown");
        for (text, field) in [
            ("", "either a `command` or a `url`"),
            ("command = \"x\"\nurl = \"http://x\"", "either a `command` or a `url`"),
            ("command = \" \"", "`command` is empty"),
            ("command = \"x\"\nsecret = \"y\"", "`secret` goes with `url`"),
            ("url = \"x\"", "https://"),
            ("url = \"http://x\"\nsecret = \"\"", "`secret` is empty"),
            ("url = \"http://x\"\nsecret = [\"a\", \"\"]", "`secret` is empty"),
            ("url = \"http://x\"\nsecret = []", "`secret` is an empty list"),
            (&format!("command = \"{}\"", "x".repeat(COMMAND + 1)), "longer than 64 KiB"),
            ("command = \"x\"\noutcomes = [\"gone\"]", "`outcomes` has no such value"),
            ("command = \"x\"\noutcomes = []", "`outcomes` is empty"),
            ("command = \"x\"\nbatch = 0", "`batch` is out of range"),
            ("command = \"x\"\ntimeout = \"0\"", "`timeout` has no length"),
            ("command = \"x\"\nname = \"a b\"", "no name for a follower"),
            ("command = \"x\"\n[[hook]]\ncommand = \"x\"", "two hooks have the same name"),
        ] {
            let e = hooks(&format!("[[hook]]\n{text}")).unwrap_err();
            assert!(e.kind() == Kind::Config && e.full().contains(field), "{text}: {}", e.full());
        }
    }
}
