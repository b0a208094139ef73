//! What a sweep has found so far, on disk: a line of JSON each.
//!
//! In: findings, and how far the comparison has come. Out: the same, later, and a point from which a sweep that was cut off goes on.
//! Promise: what is behind the last point is forgotten, so that nothing stands there twice; one sweep at a time writes a spool.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Dangling, Held, Orphan};
use crate::{
    error::{Error, Kind, Result},
    name::FileName,
    owner,
};

/// What a sweep finds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// A file that no row references.
    Orphan(Orphan),
    /// The same, but its name stands in a value, though no binding reads it there: it is held.
    Held(Held),
    /// A row that references a file that is not there.
    Dangling(Dangling),
}

/// What is counted, up to a point.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    pub files: u64,
    pub references: u64,
    pub orphans: super::Amount,
    pub young: super::Amount,
    pub derived: super::Amount,
    pub mentioned: super::Amount,
    #[serde(default)]
    pub otherwise: super::Amount,
    #[serde(default)]
    pub otherwise_in: BTreeMap<String, super::AmbiguousValues>,
    #[serde(default)]
    pub unexplained: BTreeMap<String, super::AmbiguousValues>,
    pub protected: u64,
    pub odd: u64,
    pub dangling: u64,
    pub in_trash: u64,
    pub other_form: u64,
    pub held: super::Amount,
}

impl Counts {
    /// What was held is an orphan again, until it is found held once more.
    pub fn release_held(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.orphans.files += held.files;
        self.orphans.bytes += held.bytes;
    }
}

/// How far the comparison has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Point {
    /// Everything up to this name is compared; `None`: nothing yet.
    pub at: Option<FileName>,
    /// Whether the comparison is over.
    pub done: bool,
    pub counts: Counts,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    /// What is swept: another sweep's spool is of no use.
    Begin {
        what: String,
        started: Timestamp,
    },
    Found(Finding),
    Point(Point),
}

#[derive(Debug)]
pub(super) struct Spool {
    path: PathBuf,
    what: String,
    file: BufWriter<File>,
    pub(super) started: Timestamp,
}

impl Spool {
    /// Opens the spool of `what`, and tells where to go on. `afresh` forgets what is there; so does whatever was begun before `oldest`.
    ///
    /// # Errors
    /// [`Kind::Busy`] while another process writes it.
    pub(super) fn open(path: &Path, what: &str, afresh: bool, oldest: Timestamp) -> Result<(Self, Option<Point>)> {
        let in_context = |e: std::io::Error| failed(path, e);
        if let Some(folder) = path.parent() {
            owner::make_folders(folder).map_err(in_context)?;
        }
        let mut file = owner::open_or_make(path).map_err(in_context)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::new(Kind::Busy, "another process sweeps the same files")
                    .with("file", path.display())
                    .hint("let it end; several processes can share a storage with --after and --until"));
            }
            Err(e) => return Err(in_context(e.into())),
        }
        let found =
            if afresh { None } else { last_point(&mut file, what).map_err(in_context)?.filter(|(_, started, _)| *started >= oldest) };
        let (length, started, point) = match found {
            Some((length, started, point)) => (length, started, Some(point)),
            None => (0, Timestamp::now(), None),
        };
        file.set_len(length).map_err(in_context)?;
        file.seek(SeekFrom::Start(length)).map_err(in_context)?;
        let mut spool = Spool { path: path.to_owned(), what: what.to_owned(), file: BufWriter::new(file), started };
        if length == 0 {
            spool.write(&Line::Begin { what: what.to_owned(), started })?;
        }
        Ok((spool, point))
    }

    pub(super) fn found(&mut self, finding: Finding) -> Result<()> {
        self.write(&Line::Found(finding))
    }

    /// Everything up to here is known, and stays known if the process is killed.
    pub(super) fn point(&mut self, point: &Point) -> Result<()> {
        self.write(&Line::Point(point.clone()))?;
        self.file.flush().map_err(|e| failed(&self.path, e))
    }

    fn write(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_vec(line).map_err(|e| failed(&self.path, e.into()))?;
        text.push(b'\n');
        self.file.write_all(&text).map_err(|e| failed(&self.path, e))
    }

    /// Writes every finding anew, as `change` has it, and `point` behind them. Until the new file is in its place the old one counts.
    pub(super) fn rewrite(&mut self, point: &Point, mut change: impl FnMut(Finding) -> Result<Finding>) -> Result<()> {
        let path = self.new_path();
        let in_context = |e: std::io::Error| failed(&path, e);
        let file = owner::open_or_make(&path).map_err(in_context)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|e| in_context(e.into()))?;
        file.set_len(0).map_err(in_context)?;
        let mut new = Spool { path: path.clone(), what: self.what.clone(), file: BufWriter::new(file), started: self.started };
        new.write(&Line::Begin { what: self.what.clone(), started: self.started })?;
        for finding in self.findings()? {
            new.found(change(finding?)?)?;
        }
        new.point(point)?;
        std::fs::rename(&path, &self.path).map_err(in_context)?;
        self.file = new.file;
        Ok(())
    }

    /// The folder in which it lies.
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// Every finding, in order.
    pub(super) fn findings(&self) -> Result<Findings> {
        let file = File::open(&self.path).map_err(|e| failed(&self.path, e))?;
        Ok(Findings { lines: BufReader::new(file), path: self.path.clone() })
    }

    /// Where it is written anew.
    fn new_path(&self) -> PathBuf {
        self.path.with_extension("new")
    }

    /// The sweep is over, and its findings were reported. A process that was killed while it wrote them anew has left the new file.
    pub(super) fn forget(self) -> Result<()> {
        for path in [&self.new_path(), &self.path] {
            match std::fs::remove_file(path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(path, e)),
                _ => {}
            }
        }
        Ok(())
    }
}

fn failed(path: &Path, e: std::io::Error) -> Error {
    Error::new(Kind::Config, "cannot keep what the sweep finds")
        .with("file", path.display())
        .because(e)
        .hint("make room or give the right to write there, or name another folder with --state")
}

/// The end of the last point, when the sweep began, and the point; `None` if the file is another sweep's or has none.
fn last_point(file: &mut File, what: &str) -> std::io::Result<Option<(u64, Timestamp, Point)>> {
    let mut lines = BufReader::new(file);
    let (mut begun, mut last, mut at) = (None, None, 0);
    let mut text = Vec::new();
    loop {
        text.clear();
        let length = lines.read_until(b'\n', &mut text)? as u64;
        // The last line may have been cut off.
        if length == 0 || text.last() != Some(&b'\n') {
            break;
        }
        at += length;
        match (serde_json::from_slice(&text), begun) {
            (Ok(Line::Begin { what: w, started }), None) if w == what => begun = Some(started),
            (Ok(Line::Found(_)), Some(_)) => {}
            (Ok(Line::Point(point)), Some(started)) => last = Some((at, started, point)),
            _ => break,
        }
    }
    Ok(last)
}

/// What a sweep found, read from disk as it is asked for.
#[derive(Debug)]
pub struct Findings {
    lines: BufReader<File>,
    path: PathBuf,
}

impl Iterator for Findings {
    type Item = Result<Finding>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut text = String::new();
        loop {
            text.clear();
            match self.lines.read_line(&mut text) {
                Ok(0) => return None,
                Ok(_) => match serde_json::from_str(&text) {
                    Ok(Line::Found(finding)) => return Some(Ok(finding)),
                    Ok(Line::Begin { .. } | Line::Point(_)) => {}
                    Err(e) => return Some(Err(failed(&self.path, e.into()))),
                },
                Err(e) => return Some(Err(failed(&self.path, e))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    fn orphan(name: &str) -> Finding {
        Finding::Orphan(Orphan { name: FileName::parse(name).unwrap(), size: 1, modified: Timestamp::UNIX_EPOCH })
    }

    fn point(name: &str) -> Point {
        Point { at: FileName::parse(name).ok(), done: false, counts: Counts { files: 7, ..Counts::default() } }
    }

    fn names(spool: &Spool) -> Vec<String> {
        spool.findings().unwrap().map(|f| if let Ok(Finding::Orphan(o)) = f { o.name.to_string() } else { "?".to_owned() }).collect()
    }

    #[test]
    fn what_is_behind_the_last_point_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/spool");
        let ever = Timestamp::UNIX_EPOCH;
        let (mut spool, at) = Spool::open(&path, "all", false, ever).unwrap();
        assert_eq!(at, None);
        assert_eq!(Spool::open(&path, "all", false, ever).unwrap_err().kind(), Kind::Busy);
        spool.found(orphan("a")).unwrap();
        spool.point(&point("b")).unwrap();
        spool.found(orphan("c")).unwrap();
        drop(spool);
        let mut cut = OpenOptions::new().append(true).open(&path).unwrap();
        cut.write_all(b"{\"found\":{\"orph").unwrap();
        drop(cut);

        let (mut spool, at) = Spool::open(&path, "all", false, ever).unwrap();
        assert_eq!(at, Some(point("b")));
        spool.found(orphan("d")).unwrap();
        spool.point(&point("e")).unwrap();
        assert_eq!(names(&spool), ["a", "d"]);
        drop(spool);

        // Another sweep, an old one, or one that is not wanted any more.
        for (what, afresh, oldest) in [("other", false, ever), ("other", true, ever), ("other", false, Timestamp::MAX)] {
            let (mut spool, at) = Spool::open(&path, what, afresh, oldest).unwrap();
            assert_eq!(at, None, "{what} {afresh} {oldest}");
            assert_eq!(names(&spool), [""; 0]);
            spool.point(&point("b")).unwrap();
        }
        let (spool, at) = Spool::open(&path, "other", false, ever).unwrap();
        assert_eq!(at, Some(point("b")));
        // Another process was killed while it wrote the findings anew.
        let left = path.with_extension("new");
        std::fs::write(&left, "{").unwrap();
        spool.forget().unwrap();
        assert!(!path.exists() && !left.exists());
    }
}
