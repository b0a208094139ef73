//! What came to the database since it was attached.
//!
//! In: the columns of the database and the values of those that are bound. Out: deletion stops where a new column references files, and checks look deeper where values
//! came that need it. Promise: where a look takes long it rests for twenty times as long, but not for so long that what was moved meanwhile could not come back; and what fails
//! in it delays no other loop.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::Collector;
use crate::{
    error::{Kind, Result},
    evidence::Limits,
    storage::Storage,
    trash::WINDOW,
};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(60);

/// How many values of a new column are looked at, and for how long all of them.
const LIMITS: Limits = Limits { values: 100, time: Duration::from_secs(3) };

/// How long all values of one bound column may be looked through: longer than at attach, so that what was read to its end then is now.
const THROUGH: Duration = Duration::from_secs(30);

/// It rests for so many times as long as it took.
const REST: u32 = 20;

impl Collector {
    /// Looks now and then what came since the database was attached.
    pub(super) async fn survey_often(&self, mut stop: watch::Receiver<bool>) {
        let mut said: Option<String> = None;
        while !*stop.borrow() {
            let began = Instant::now();
            let failed = match self.survey(true).await {
                Err(e) if !matches!(e.kind(), Kind::DatabaseUnreachable | Kind::StorageUnreachable | Kind::Drift) => Some(e),
                // Those are the workers' and the verifier's to say.
                _ => None,
            };
            let text = failed.as_ref().map(|e| e.full());
            if let Some(e) = failed.filter(|_| said != text) {
                tracing::warn!(kind = ?e.kind(), hint = e.hint_text(), "new columns and values could not be looked at: {}", e.full());
            }
            said = text;
            // While deletion is stopped nothing is looked at for long, and somebody waits for the end of it.
            let rest = if self.guard.is_stopped() { Duration::ZERO } else { began.elapsed().saturating_mul(REST).min(WINDOW / 3) };
            let pause = self.settings.survey.max(rest);
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One look. A drain leaves the values of bound columns to attach: of what it moves it reports what a row references after all, and what it erases is checked at every
    /// value.
    pub(super) async fn survey(&self, values: bool) -> Result<()> {
        let storages: BTreeMap<String, Arc<dyn Storage>> =
            self.storages.iter().map(|(name, state)| (name.clone(), state.storage.clone())).collect();
        // What drifted is said first: a renamed column would be a new one. A column that stops deletion is looked at all the same: it may be gone, or emptied.
        self.guard.verify_attached().await?;
        // A storage that is away keeps nobody from looking at values.
        let new = self.guard.look_for_new(&storages, LIMITS).await;
        if values && !self.guard.is_stopped() {
            self.guard.look_deeper(THROUGH).await?;
        }
        new
    }

    /// The same for a drain, once in a while. Whether it looked.
    pub(super) async fn survey_once(&self) -> Result<bool> {
        let due = |at: &Option<Instant>| at.is_none_or(|at| at.elapsed() >= self.settings.survey);
        if !due(&self.surveyed.lock().unwrap_or_else(|e| e.into_inner())) {
            return Ok(false);
        }
        match self.survey(false).await {
            // Whose files cannot be looked at loses none; the others' go on.
            Err(e) if e.kind() == Kind::StorageUnreachable => return Ok(false),
            done => done?,
        }
        *self.surveyed.lock().unwrap_or_else(|e| e.into_inner()) = Some(Instant::now());
        Ok(true)
    }
}

/// The default of [`super::Settings::survey`].
pub(super) const DEFAULT: Duration = EVERY;
