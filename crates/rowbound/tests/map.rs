//! `lib.rs` is the map: its modules stand in the order in which a file name travels, and none imports one that stands below it.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// The modules that `use` declarations and paths of a source name after `crate::`.
fn named(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for after in text.split("crate::").skip(1) {
        let group = after.strip_prefix('{').map_or(after, |inside| inside.split_once("};").map_or(inside, |(group, _)| group));
        let items: Vec<&str> = if after.starts_with('{') { group.split('\n').collect() } else { vec![group] };
        for item in items {
            let word: String = item.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            found.push(word);
        }
    }
    found
}

fn imports_only_what_stands_above(src: &Path) {
    let lib = fs::read_to_string(src.join("lib.rs")).expect("lib.rs");
    let order: Vec<&str> =
        lib.lines().filter_map(|l| l.trim_start_matches("pub ").strip_prefix("mod ")).filter_map(|l| l.split(';').next()).collect();
    assert!(order.len() > 10, "{order:?}");
    let place = |module: &str| order.iter().position(|m| *m == module);

    let mut files = Vec::new();
    sources(src, &mut files);
    let mut checked = 0;
    for file in files {
        let relative = file.strip_prefix(src).expect("below src");
        let first = relative.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
        let module = first.trim_end_matches(".rs");
        let Some(own) = place(module) else { continue }; // lib.rs itself
        for other in named(&fs::read_to_string(&file).expect("a source")) {
            if let Some(at) = place(&other) {
                checked += 1;
                assert!(at <= own, "{} imports `{other}`, which stands below `{module}` in lib.rs", relative.display());
            }
        }
    }
    assert!(checked > 15, "only {checked} imports were found");
}

#[test]
fn no_module_imports_one_below_it() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    imports_only_what_stands_above(&here.join("src"));
    imports_only_what_stands_above(&here.join("../rowbound-orm/src"));
}
