//! Any text as a client's file name, any bytes as a row's value: what is made of the first is a name, and what passes for a name stays what it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rowbound::{Binding, FileName};
use rowbound_files::names::clean;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(name) = FileName::from_bytes(bytes) {
        assert_eq!(name.as_str().as_bytes(), bytes, "a name is its bytes");
        assert!(!name.as_str().split('/').any(|part| matches!(part, "" | "." | "..")), "{name:?} could leave its folder");
        let whole = name.folder().map_or_else(|| name.base().to_owned(), |folder| format!("{folder}/{}", name.base()));
        assert_eq!(whole, name.as_str());
    }
    let url = Binding::url("t.c", "default", "/media/").expect("a column");
    let _ = url.resolve(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let made = clean(text);
    let name = FileName::parse(&made).unwrap_or_else(|why| panic!("{text:?} became {made:?}, which {why}"));
    assert_eq!(name.folder(), None, "{made:?} has a folder");
    assert_eq!(clean(&made), made, "cleaning {text:?} twice makes another name");
});
