//! Hooks: commands and webhooks that hear of what was deleted.
//!
//! In: the plan's `[[hook]]`s, `--hook` and `--webhook`. Out: each follows the ledger under its name, beside the collector. Promise: a call that did not
//! succeed is made again; none delays a deletion.

use std::{sync::Arc, time::Duration};

use rowbound::{
    Plan, Result,
    database::Database,
    delivery::Registered,
    follow::{BoxError, Delivery, DeliveryCounts, Follower},
    plan::{Call, Hook, check_hooks},
};
use tokio::{sync::watch, task::JoinSet};

use crate::args::HookArgs;

mod command; // sh -c
#[cfg(feature = "webhooks")]
mod webhook; // POST

/// What a hook calls, ready to be called.
#[derive(Debug, Clone)]
enum Caller {
    Command(Arc<command::Command>),
    #[cfg(feature = "webhooks")]
    Webhook(Arc<webhook::Webhook>),
}

impl Caller {
    fn new(hook: &Hook) -> Result<Self> {
        match &hook.call {
            Call::Command(command) => Ok(Caller::Command(Arc::new(command::Command::new(hook, command)))),
            #[cfg(feature = "webhooks")]
            Call::Webhook { url, secrets } => Ok(Caller::Webhook(Arc::new(webhook::Webhook::new(hook, url, secrets)?))),
            #[cfg(not(feature = "webhooks"))]
            Call::Webhook { .. } => Err(rowbound::Error::new(rowbound::Kind::Config, "this rowbound was built without webhooks")
                .with("hook", &hook.name)
                .hint("build it with the feature `webhooks`")),
        }
    }

    async fn call(self, deliveries: Vec<Delivery>) -> Result<(), BoxError> {
        match self {
            Caller::Command(command) => command.call(&deliveries).await,
            #[cfg(feature = "webhooks")]
            Caller::Webhook(webhook) => webhook.call(&deliveries).await,
        }
    }
}

/// Every hook, registered.
#[derive(Debug)]
pub struct Hooks(Vec<(Arc<Follower>, Caller)>);

impl Hooks {
    /// Registers the hooks of the plan and of the arguments: what is settled from now on waits for them.
    pub async fn register(plan: &Plan, db: &Arc<dyn Database>, args: &HookArgs, lease: Duration, poll: Duration) -> Result<Self> {
        let mut hooks = plan.hooks.clone();
        hooks.extend(args.hook.iter().map(|command| Hook::new(Call::Command(command.clone()))));
        hooks.extend(args.webhook.iter().map(|url| Hook::new(Call::Webhook { url: url.clone(), secrets: Vec::new() })));
        check_hooks(&hooks)?;
        let mut ready = Vec::new();
        for hook in &hooks {
            let follower =
                Follower::new(db.clone(), &hook.name)?.outcomes(hook.outcomes.clone()).batch(hook.batch as usize).lease(lease).poll(poll);
            ready.push((Arc::new(follower), Caller::new(hook)?));
        }
        for ((follower, _), hook) in ready.iter().zip(&hooks) {
            follower.register().await?;
            tracing::info!(hook = hook.name, calls = hook.call.shown(), "follows");
        }
        Ok(Hooks(ready))
    }

    /// Delivers for ever, each hook for itself, until `stop`; the returned tasks end after the calls that are under way.
    pub fn run(&self, stop: &watch::Receiver<bool>) -> JoinSet<DeliveryCounts> {
        let mut tasks = JoinSet::new();
        for (follower, caller) in &self.0 {
            let (follower, caller, stop) = (follower.clone(), caller.clone(), stop.clone());
            tasks.spawn(async move { follower.run(stop, |deliveries| caller.clone().call(deliveries)).await });
        }
        tasks
    }

    /// Delivers what is due.
    pub async fn deliver(&self, stop: &watch::Receiver<bool>) -> Result<()> {
        let all = self.0.iter().map(|(follower, caller)| follower.deliver(stop, |deliveries| caller.clone().call(deliveries)));
        for done in futures_util::future::join_all(all).await {
            done?;
        }
        Ok(())
    }

    /// Makes due what waits for another try.
    pub async fn retry_now(&self) -> Result<()> {
        for (follower, _) in &self.0 {
            follower.retry_now().await?;
        }
        Ok(())
    }

    /// What each has not received yet.
    pub async fn waiting(&self, db: &dyn Database) -> Result<Vec<Registered>> {
        if self.0.is_empty() {
            return Ok(Vec::new());
        }
        let mut all = db.followers().await?;
        all.retain(|f| self.0.iter().any(|(ours, _)| ours.name() == f.name));
        Ok(all)
    }
}

/// Deliveries as a hook gets them: one as an object, where a hook takes several at once each on a line of its own or in a list.
fn json(deliveries: &[Delivery], lines: bool) -> Result<Vec<u8>, BoxError> {
    let mut out = Vec::new();
    for (i, delivery) in deliveries.iter().enumerate() {
        if i > 0 && !lines {
            out.push(b',');
        }
        serde_json::to_writer(&mut out, delivery)?;
        if lines {
            out.push(b'\n');
        }
    }
    Ok(out)
}

/// The end of what somebody said, for an error.
fn tail(said: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(said);
    let text = text.trim();
    match text.char_indices().rev().nth(most) {
        Some((at, c)) => format!("..{}", &text[at + c.len_utf8()..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry on its way to the hook `cdn`.
    pub fn delivery(id: i64, name: &str) -> Delivery {
        let entry = rowbound::ledger::Entry {
            id,
            at: jiff::Timestamp::UNIX_EPOCH,
            storage: "default".into(),
            binding: Some(1),
            name: name.into(),
            key: Some("1".into()),
            event: "delete".into(),
            released_at: None,
            outcome: rowbound::queue::Outcome::Trashed,
            size: None,
            place: None,
            note: None,
        };
        Delivery { entry, column: Some("doc.file".into()), follower: "cdn".into(), attempts: 0 }
    }

    #[test]
    fn the_end_of_a_long_text_is_kept() {
        assert_eq!(tail(b" short\n", 10), "short");
        assert_eq!(tail("0123456789é".as_bytes(), 3), "..89é");
        assert_eq!(tail(b"", 3), "");
    }
}
