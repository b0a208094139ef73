//! A lock that is held until the work under it is done.
//!
//! In: a lock, and work that may go on in a thread when nobody waits for it any more (a file system's calls do). Out: what the work came to, and the
//! lock. Promise: the lock is not released before the work has ended, also when the caller is given up in the middle, as an application's runtime does
//! with all its tasks when it ends.

use std::{future::Future, panic::AssertUnwindSafe};

use tokio::{runtime::Handle, sync::oneshot};

use crate::error::{Error, Kind, Result, Retry};

/// Does `work` under `lock`.
///
/// # Errors
/// [`Kind::Storage`] when no thread can be had: nothing was done.
pub(super) async fn hold_until_done<L, T>(lock: L, work: impl Future<Output = T> + Send + 'static) -> Result<(T, L)>
where
    L: Send + 'static,
    T: Send + 'static,
{
    let runtime = Handle::current();
    let (send, receive) = oneshot::channel();
    // A thread of its own: one of the runtime's for blocking calls would wait here for another of them, and an application may allow but one.
    let thread = std::thread::Builder::new().name("rowbound-remove".into()).spawn(move || {
        // A lock that nobody takes back is released here, and what closes a connection wants to know its runtime.
        let _within = runtime.enter();
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(work)));
        drop(send.send((done, lock)));
    });
    thread.map_err(|e| Error::new(Kind::Storage, "cannot start a thread").because(e).retry(Retry::Later))?;
    match receive.await {
        Ok((Ok(done), lock)) => Ok((done, lock)),
        Ok((Err(panic), lock)) => {
            drop(lock);
            std::panic::resume_unwind(panic)
        }
        Err(e) => Err(Error::new(Kind::Bug, "a thread ended without an answer").because(e)),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc::{Receiver, Sender, channel},
        time::Duration,
    };

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    /// Says when it is released.
    #[derive(Debug)]
    struct Lock(Sender<&'static str>);

    impl Drop for Lock {
        fn drop(&mut self) {
            let _ = self.0.send("released");
        }
    }

    /// Work in a thread of the runtime's, as a folder does it: says that it has begun, and ends when it is told to.
    async fn work(begun: oneshot::Sender<()>, end: Receiver<()>, events: Sender<&'static str>) {
        let _ = tokio::task::spawn_blocking(move || {
            let _ = begun.send(());
            let _ = end.recv_timeout(DEADLINE);
            let _ = events.send("worked");
        })
        .await;
    }

    #[tokio::test]
    async fn the_lock_comes_back_with_the_result() {
        let (events, happened) = channel();
        let (done, lock) = hold_until_done(Lock(events), async { 7 }).await.unwrap();
        assert_eq!(done, 7);
        assert!(happened.try_recv().is_err(), "it is held still");
        drop(lock);
        assert_eq!(happened.recv_timeout(DEADLINE), Ok("released"));
    }

    #[tokio::test]
    async fn a_caller_that_is_given_up_releases_nothing_before_the_work_has_ended() {
        let (events, happened) = channel();
        let ((begun, has_begun), (end, ending)) = (oneshot::channel(), channel());
        let task = tokio::spawn(hold_until_done(Lock(events.clone()), work(begun, ending, events)));
        has_begun.await.unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        end.send(()).unwrap();
        assert_eq!(happened.recv_timeout(DEADLINE), Ok("worked"));
        assert_eq!(happened.recv_timeout(DEADLINE), Ok("released"));
    }

    #[test]
    fn nor_does_a_runtime_that_ends() {
        for runtime in [tokio::runtime::Builder::new_current_thread(), tokio::runtime::Builder::new_multi_thread()] {
            let runtime = { runtime }.max_blocking_threads(1).enable_all().build().unwrap();
            let (events, happened) = channel();
            let ((begun, has_begun), (end, ending)) = (oneshot::channel(), channel());
            runtime.block_on(async {
                tokio::spawn(hold_until_done(Lock(events.clone()), work(begun, ending, events)));
                has_begun.await.unwrap();
            });
            runtime.shutdown_background();
            end.send(()).unwrap();
            assert_eq!(happened.recv_timeout(DEADLINE), Ok("worked"));
            assert_eq!(happened.recv_timeout(DEADLINE), Ok("released"));
        }
    }
}
