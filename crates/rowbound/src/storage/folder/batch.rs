//! A batch, folder by folder, on several threads.

use std::{
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// A batch is divided among at most so many threads, however few the cores: a thread waits most of its time where freeing a file's blocks
/// goes to the disk at once (ext4 mounted with `discard`: 55 us a file on one thread, 25 on four) or to a server.
const THREADS: usize = 4;

/// A piece of a batch for one thread: so many files of one folder. Fewer are not worth a thread.
const PIECE: usize = 128;

/// Calls `work` for every folder with the items that lie in it, on several threads if there are many, and then in pieces; `work` passes the
/// result of each item to its last argument. The results are in the items' order.
pub(super) fn by_folder<'a, T: Send>(
    items: usize,
    folder: impl Fn(usize) -> &'a str + Sync,
    work: impl Fn(&'a str, &[usize], &mut dyn FnMut(usize, T)) + Sync,
) -> Vec<T> {
    let mut order: Vec<usize> = (0..items).collect();
    if !order.is_sorted_by_key(|i| folder(*i)) {
        order.sort_by_key(|i| folder(*i));
    }
    let mut pieces: Vec<(usize, Range<usize>)> = Vec::new();
    let mut start = 0;
    for group in order.chunk_by(|a, b| folder(*a) == folder(*b)) {
        for (nth, piece) in group.chunks(PIECE).enumerate() {
            pieces.push((nth, start..start + piece.len()));
            start += piece.len();
        }
    }
    // Threads in one folder wait for each other: first a piece of every folder, then the second of every one, ..
    pieces.sort_by_key(|(nth, _)| *nth);
    let next = AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        while let Some((_, piece)) = pieces.get(next.fetch_add(1, Relaxed)) {
            let piece = &order[piece.clone()];
            work(folder(piece[0]), piece, &mut |i, one| done.push((i, one)));
        }
        done
    };
    let threads = (items / PIECE).min(pieces.len()).clamp(1, THREADS);
    let parts: Vec<Vec<(usize, T)>> = std::thread::scope(|scope| {
        // A thread that cannot be had is no error: the others do its part.
        let others: Vec<_> = (1..threads).filter_map(|_| std::thread::Builder::new().spawn_scoped(scope, run).ok()).collect();
        let mine = run();
        let joined = others.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        std::iter::once(mine).chain(joined).collect()
    });
    let mut all: Vec<Option<T>> = (0..items).map(|_| None).collect();
    for (i, one) in parts.into_iter().flatten() {
        all[i] = Some(one);
    }
    all.into_iter().map(|one| one.expect("`work` answers for every item of its group")).collect()
}
