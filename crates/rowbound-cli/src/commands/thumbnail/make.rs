//! Pictures on disk.
//!
//! In: what was typed. Out: a picture for each file, or why there is none. Promises: no file is overwritten unless that was asked for, and no
//! half-written one is ever seen under its name.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use rowbound::{Error, Kind, Result};
use rowbound_image::{Format, Pipeline};
use serde::Serialize;
use tokio::sync::watch;

use crate::{args::ThumbnailArgs, commands::pictures, logs::Progress, output};

/// What is to be done.
pub struct Plan {
    pipeline: Pipeline,
    inputs: Vec<PathBuf>,
    output: Output,
    force: bool,
    jobs: usize,
}

enum Output {
    File(PathBuf),
    /// Its pictures have the names of their originals.
    Folder(PathBuf),
}

/// What `thumbnail` answers.
#[derive(Debug, Serialize)]
pub struct Made {
    /// In the order of the arguments.
    pub made: Vec<Picture>,
    pub failed: Vec<Failure>,
    /// Files that were not tried any more after a signal.
    pub left: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Picture {
    input: String,
    output: String,
    format: String,
    width: u32,
    height: u32,
    bytes: u64,
}

#[derive(Debug, Serialize)]
pub struct Failure {
    input: String,
    message: String,
    hint: Option<String>,
}

impl Plan {
    /// Checks the arguments; nothing is read yet.
    pub fn new(a: &ThumbnailArgs) -> Result<Plan> {
        let (output, inputs) = match a.paths.split_last() {
            Some((output, inputs)) if !inputs.is_empty() => (output, inputs),
            _ => return Err(Error::new(Kind::Config, "name the pictures, then the file or folder for the thumbnails")),
        };
        let folder = output.is_dir();
        if !folder && (inputs.len() > 1 || output.as_os_str().as_encoded_bytes().ends_with(b"/")) {
            return Err(Error::new(Kind::Config, "the folder for the thumbnails is not there")
                .with("folder", output.display())
                .hint(format!("mkdir -p {}", output.display())));
        }
        let mut pipeline = pictures::pipeline(Some(a.size), &a.pictures)?;
        let by_name = || if folder { None } else { Format::from_name(output.extension()?.to_str()?) };
        if a.pictures.format_of_pictures.is_none()
            && let Some(format) = by_name()
        {
            pipeline = pipeline.format(format);
        }
        let output = if folder { Output::Folder(output.clone()) } else { Output::File(output.clone()) };
        let jobs = a.jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
        Ok(Plan { pipeline, inputs: inputs.to_vec(), output, force: a.force, jobs })
    }

    /// Makes all pictures, several at once. A failure ends nothing but its own file.
    pub fn run(&self, progress: &Progress, stop: &watch::Receiver<bool>) -> Made {
        let next = AtomicUsize::new(0);
        let taken = Mutex::new(HashMap::new());
        let results = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.min(self.inputs.len()) {
                scope.spawn(|| {
                    while !*stop.borrow() {
                        let index = next.fetch_add(1, Relaxed);
                        let Some(input) = self.inputs.get(index) else { break };
                        let result = self.one(input, &taken);
                        let mut results = results.lock().unwrap_or_else(|e| e.into_inner());
                        results.push((index, result));
                        progress.done(results.len(), self.inputs.len(), "pictures");
                    }
                });
            }
        });
        let mut results = results.into_inner().unwrap_or_else(|e| e.into_inner());
        results.sort_by_key(|(index, _)| *index);
        let mut made = Made { made: Vec::new(), failed: Vec::new(), left: Vec::new() };
        let tried: Vec<usize> = results.iter().map(|(index, _)| *index).collect();
        for (index, result) in results {
            match result {
                Ok(picture) => made.made.push(picture),
                Err(e) => {
                    made.failed.push(Failure { input: shown(&self.inputs[index]), message: e.full(), hint: e.hint_text().map(Into::into) })
                }
            }
        }
        made.left =
            (0..self.inputs.len()).filter(|index| tried.binary_search(index).is_err()).map(|index| shown(&self.inputs[index])).collect();
        made
    }

    fn one(&self, input: &Path, taken: &Mutex<HashMap<PathBuf, PathBuf>>) -> Result<Picture> {
        let io = |what: &'static str| move |e: io::Error| Error::new(Kind::Storage, what).because(e);
        let length = fs::metadata(input).map_err(io("cannot read the file"))?.len();
        if length > pictures::LARGEST {
            return Err(Error::new(
                Kind::Storage,
                format!("the file has {}; {} are read", output::bytes(length), output::bytes(pictures::LARGEST)),
            ));
        }
        let bytes = fs::read(input).map_err(io("cannot read the file"))?;
        let picture = self.pipeline.run(&bytes).map_err(|e| {
            let error = Error::new(Kind::Storage, e.to_string());
            match e.hint_text() {
                Some(hint) => error.hint(hint),
                None => error,
            }
        })?;
        drop(bytes);
        let to = match &self.output {
            Output::File(file) => file.clone(),
            Output::Folder(folder) => folder.join(renamed(input, picture.format)),
        };
        // Two originals of one name: the second must not take the place of the first, even with --force.
        let first = taken.lock().unwrap_or_else(|e| e.into_inner()).entry(to.clone()).or_insert_with(|| input.to_owned()).clone();
        if first != input {
            return Err(Error::new(Kind::Storage, "another picture has the same name")
                .with("picture", first.display())
                .with("name", to.display()));
        }
        self.write(&to, &picture.bytes)?;
        Ok(Picture {
            input: shown(input),
            output: shown(&to),
            format: picture.format.name().to_owned(),
            width: picture.width,
            height: picture.height,
            bytes: picture.bytes.len() as u64,
        })
    }

    /// Writes beside the name, then gives it the name.
    fn write(&self, to: &Path, bytes: &[u8]) -> Result<()> {
        let failed = |e: io::Error| Error::new(Kind::Storage, "cannot write the thumbnail").with("file", to.display()).because(e);
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new()
            .prefix(".rowbound-")
            .permissions(fs::Permissions::from_mode(0o666)) // less the umask
            .tempfile_in(folder)
            .map_err(failed)?;
        rowbound::owner::give_to_folder(file.as_file(), to).map_err(failed)?;
        file.write_all(bytes).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        if self.force {
            file.persist(to).map_err(|e| failed(e.error))?;
        } else {
            file.persist_noclobber(to).map_err(|e| match e.error.kind() {
                io::ErrorKind::AlreadyExists => {
                    Error::new(Kind::Storage, "the file is there already").with("file", to.display()).hint("add --force to overwrite it")
                }
                _ => failed(e.error),
            })?;
        }
        Ok(())
    }
}

impl Made {
    /// For people.
    pub fn text(&self) -> String {
        let mut rows = Vec::new();
        for made in &self.made {
            let size = format!("{}x{}", made.width, made.height);
            rows.push(vec!["made".into(), output::safe(&made.output), size, output::bytes(made.bytes)]);
        }
        let mut text = output::table(&rows, 0);
        for failure in &self.failed {
            text.push_str(&format!("failed  {}: {}\n", output::safe(&failure.input), output::safe(&failure.message)));
            if let Some(hint) = &failure.hint {
                text.push_str(&format!("        hint: {}\n", output::safe(hint)));
            }
        }
        for left in &self.left {
            text.push_str(&format!("left    {}: stopped before it\n", output::safe(left)));
        }
        text
    }
}

/// A picture's name, with an extension that its new format has.
fn renamed(input: &Path, format: Format) -> PathBuf {
    let name = PathBuf::from(input.file_name().unwrap_or_default());
    match name.extension().and_then(|extension| extension.to_str()) {
        Some(extension) if format.keeps(extension) => name,
        _ => name.with_extension(format.extension()),
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
