//! What a session of the engine is, asked by a query that is bound: the engine itself runs it.

use std::collections::BTreeMap;

use rowbound::{
    binding::{Column, Reading},
    database::{ColumnScan, Database},
};

/// Every `name=value` that a query of one column returns, as a session of the engine sees it.
///
/// # Panics
/// When the query fails, or a value is none.
pub async fn said_by_its_session(db: &dyn Database, query: &str) -> BTreeMap<String, String> {
    let scan = ColumnScan {
        binding: 1,
        column: Column::parse("query.settings").expect("a column"),
        query: Some(query.to_owned()),
        only: BTreeMap::new(),
        reading: Reading::Name,
        ordered: false,
        after: None,
        until: None,
    };
    let mut values = db.scan(&scan).await.unwrap_or_else(|e| panic!("{}", e.full()));
    let mut found = BTreeMap::new();
    loop {
        let page = values.pages.recv().await.expect("a scan ends with a last page").unwrap_or_else(|e| panic!("{}", e.full()));
        for value in page.values {
            let value = String::from_utf8(value).expect("UTF-8");
            let (name, value) = value.split_once('=').expect("name=value");
            found.insert(name.to_owned(), value.to_owned());
        }
        if page.last {
            return found;
        }
    }
}

/// The names that a list of decisions has for `server`: lines `server: name name ..`, continued by lines that begin with four blanks; `both` is every server.
/// All else in it are reasons.
pub fn left_alone(list: &str, server: &str) -> Vec<String> {
    let text = list.replace("\n    ", " ");
    let lines = text.lines().filter_map(|line| line.split_once(": ")).filter(|(on, _)| *on == "both" || *on == server);
    lines.flat_map(|(_, names)| names.split_whitespace().map(str::to_owned)).collect()
}
