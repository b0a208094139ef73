//! `--list`: a line for each finding, for people. Programs take CSV or JSON, where a name stands as it is.

use rowbound::sweep::{Dangling, Orphan};

use super::report::shown;
use crate::output;

/// A file that no row names.
pub fn orphan(orphan: &Orphan) -> String {
    format!("orphan    {}  {:>9}  {}", output::moment(orphan.modified), output::bytes(orphan.size), shown(orphan.name.as_str()))
}

/// A row that names a file that is not there.
pub fn dangling(row: &Dangling) -> String {
    let key = row.key.as_deref().map_or_else(String::new, |key| format!(" of row {}", shown(key)));
    let trash = match (row.healed, row.in_trash) {
        (true, _) => " (came back from the trash)",
        (false, true) => " (the trash holds it: --heal)",
        (false, false) => "",
    };
    format!("dangling  {}{key}: {}{trash}", shown(&row.column), shown(row.name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowbound::FileName;

    #[test]
    fn a_line_for_each_finding() {
        let name = FileName::parse("2024/a\nb.jpg").unwrap();
        let found = Orphan { name: name.clone(), size: 1_200_000, modified: jiff::Timestamp::UNIX_EPOCH };
        assert_eq!(orphan(&found), "orphan    1970-01-01 00:00:00Z     1.2 MB  2024/a\\u{a}b.jpg");
        let mut row = Dangling { name, column: "doc.file".into(), key: Some("7".into()), in_trash: true, healed: false };
        assert_eq!(dangling(&row), "dangling  doc.file of row 7: 2024/a\\u{a}b.jpg (the trash holds it: --heal)");
        (row.key, row.in_trash) = (None, false);
        assert_eq!(dangling(&row), "dangling  doc.file: 2024/a\\u{a}b.jpg");
    }
}
