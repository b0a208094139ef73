//! A sort of any size in bounded memory: sorted runs on disk, merged.
//!
//! In: names in any order, as often as they like. Out: each once, in bytewise order. Its files have no names: they go with the process.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// So many bytes of names are sorted in memory at a time.
const RUN: usize = 4 << 20;

/// From so many runs on they are merged into one, so that the last merge reads few files.
const RUNS: usize = 64;

/// What is read of a run at a time: 64 runs are 1 MiB.
const READ: usize = 16 << 10;

#[derive(Debug)]
pub(super) struct Sorter {
    folder: PathBuf,
    /// All names of the run to come, one after the other.
    bytes: Vec<u8>,
    /// Where each of them ends.
    spans: Vec<(u32, u32)>,
    runs: Vec<File>,
    run: usize,
}

impl Sorter {
    /// Its files lie in `folder`.
    pub(super) fn new(folder: &Path) -> Self {
        Self::with_runs_of(folder, RUN)
    }

    fn with_runs_of(folder: &Path, run: usize) -> Self {
        Sorter { folder: folder.to_owned(), bytes: Vec::new(), spans: Vec::new(), runs: Vec::new(), run }
    }

    pub(super) fn push(&mut self, name: &str) -> std::io::Result<()> {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(name.as_bytes());
        self.spans.push((start, self.bytes.len() as u32));
        // What is written down beside the bytes counts as well.
        if self.bytes.len() + self.spans.len() * 8 >= self.run { self.spill() } else { Ok(()) }
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        let at = |s: &(u32, u32)| &bytes[s.0 as usize..s.1 as usize];
        self.spans.sort_unstable_by(|a, b| at(a).cmp(at(b)));
        self.spans.dedup_by(|a, b| at(a) == at(b));
    }

    fn spill(&mut self) -> std::io::Result<()> {
        self.sort();
        let mut out = BufWriter::new(tempfile::tempfile_in(&self.folder)?);
        for (start, end) in &self.spans {
            write_one(&mut out, &self.bytes[*start as usize..*end as usize])?;
        }
        self.runs.push(out.into_inner().map_err(std::io::IntoInnerError::into_error)?);
        self.bytes.clear();
        self.spans.clear();
        if self.runs.len() < RUNS {
            return Ok(());
        }
        let mut out = BufWriter::new(tempfile::tempfile_in(&self.folder)?);
        for name in Merge::of(std::mem::take(&mut self.runs))? {
            write_one(&mut out, name?.as_bytes())?;
        }
        self.runs.push(out.into_inner().map_err(std::io::IntoInnerError::into_error)?);
        Ok(())
    }

    /// Every name once, in order.
    pub(super) fn finish(mut self) -> std::io::Result<Merge> {
        if !self.spans.is_empty() || self.runs.is_empty() {
            self.spill()?;
        }
        self.bytes = Vec::new();
        Merge::of(self.runs)
    }
}

fn write_one(out: &mut impl Write, name: &[u8]) -> std::io::Result<()> {
    out.write_all(&(name.len() as u32).to_le_bytes())?;
    out.write_all(name)
}

fn read_one(from: &mut impl Read) -> std::io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    // Only between two names may a run end.
    match from.read(&mut length[..1])? {
        0 => return Ok(None),
        _ => from.read_exact(&mut length[1..])?,
    }
    let mut name = vec![0; u32::from_le_bytes(length) as usize];
    from.read_exact(&mut name)?;
    Ok(Some(name))
}

/// The runs, merged.
#[derive(Debug)]
pub(super) struct Merge {
    runs: Vec<BufReader<File>>,
    heads: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
}

impl Merge {
    fn of(runs: Vec<File>) -> std::io::Result<Self> {
        let mut merge = Merge { runs: Vec::new(), heads: BinaryHeap::new() };
        for mut run in runs {
            run.seek(SeekFrom::Start(0))?;
            merge.runs.push(BufReader::with_capacity(READ, run));
            merge.advance(merge.runs.len() - 1)?;
        }
        Ok(merge)
    }

    fn advance(&mut self, run: usize) -> std::io::Result<()> {
        if let Some(name) = read_one(&mut self.runs[run])? {
            self.heads.push(Reverse((name, run)));
        }
        Ok(())
    }

    fn step(&mut self) -> std::io::Result<Option<String>> {
        let Some(Reverse((name, run))) = self.heads.pop() else { return Ok(None) };
        self.advance(run)?;
        while let Some(Reverse((same, run))) = self.heads.peek() {
            if *same != name {
                break;
            }
            let run = *run;
            self.heads.pop();
            self.advance(run)?;
        }
        String::from_utf8(name).map(Some).map_err(std::io::Error::other)
    }
}

impl Iterator for Merge {
    type Item = std::io::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_name_once_in_order(names in proptest::collection::vec("[a-c/.é😀]{1,5}", 0..300), run in 1_usize..400) {
            let folder = tempfile::tempdir().unwrap();
            let mut sorter = Sorter::with_runs_of(folder.path(), run);
            for name in &names {
                sorter.push(name).unwrap();
            }
            let sorted: Vec<String> = sorter.finish().unwrap().collect::<Result<_, _>>().unwrap();
            let wanted: Vec<String> = names.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
            prop_assert_eq!(sorted, wanted);
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn nothing_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Sorter::new(folder.path()).finish().unwrap().count(), 0);
    }
}
