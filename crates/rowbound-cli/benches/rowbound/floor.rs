//! The floor: what the kernel asks for the same files, without anybody who thinks about them.
//!
//! This runs as a process of its own, so that it is measured in the same way as `rowbound collect`.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Files in a folder of one day.
pub const PER_FOLDER: u64 = 1000;

/// The name of the nth file: folders of one day each.
pub fn name(n: u64) -> String {
    let day = n / PER_FOLDER;
    format!("{:04}/{:02}/{:02}/photo-{n:07}.jpg", 2020 + day / 336, day / 28 % 12 + 1, day % 28 + 1)
}

/// Makes the files.
pub fn fill(root: &Path, files: u64) {
    for n in 0..files {
        let path = root.join(name(n));
        if n.is_multiple_of(PER_FOLDER) {
            fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("cannot make a folder");
        }
        fs::write(&path, b"tiny").expect("cannot write a file");
    }
}

/// Unlinks every file below `root` on `threads` threads, and removes the folders. With `trash`, moves the files there instead.
pub fn unlink(root: &Path, threads: usize, trash: Option<&Path>) {
    let mut days = Vec::new();
    let folders = |of: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(of).expect("cannot list a folder").map(|e| e.expect("cannot list a folder"));
        entries.filter(|e| e.file_name() != ".rowbound").map(|e| e.path()).filter(|p| p.is_dir()).collect()
    };
    let mut above = Vec::new();
    for year in folders(root) {
        for month in folders(&year) {
            days.extend(folders(&month));
            above.push(month);
        }
        above.push(year);
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(day) = days.get(next.fetch_add(1, Relaxed)) {
                    let to = trash.map(|t| t.join(day.strip_prefix(root).expect("below the root")));
                    if let Some(to) = &to {
                        fs::create_dir_all(to).expect("cannot make a folder");
                    }
                    for file in fs::read_dir(day).expect("cannot list a folder") {
                        let file = file.expect("cannot list a folder");
                        match &to {
                            None => fs::remove_file(file.path()),
                            Some(to) => fs::rename(file.path(), to.join(file.file_name())),
                        }
                        .expect("cannot take a file away");
                    }
                    fs::remove_dir(day).expect("cannot remove a folder");
                }
            });
        }
    });
    for folder in above {
        fs::remove_dir(folder).expect("cannot remove a folder");
    }
}
