//! Sessions that no barrier waits for, because a person says that they write no references.

use std::fmt;

use crate::error::{Error, Kind, Result};

/// Sessions of which a person says that they never write a reference. No barrier waits for their transactions: if what was said is wrong, a file that they
/// reference late is lost when the trash is emptied of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ignored {
    /// Those of a role (PostgreSQL) or user (MySQL, MariaDB), by the name under which they log in.
    Role(String),
    /// Those of an application: `application_name` (PostgreSQL), the connection attribute `program_name` (MySQL).
    Application(String),
}

impl Ignored {
    /// Reads `role:NAME` or `application:NAME`.
    ///
    /// # Errors
    /// [`Kind::Config`] for anything else, and for an empty name.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::new(Kind::Config, format!("`ignore` {why}"))
                .with("in", "barrier")
                .with("ignore", format_args!("{text:?}"))
                .hint("write \"role:reporting\" or \"application:metabase\"")
        };
        let (kind, name) = text.split_once(':').ok_or_else(|| bad("holds an entry that says neither role nor application"))?;
        let ignored = match kind {
            "role" => Ignored::Role(name.to_owned()),
            "application" => Ignored::Application(name.to_owned()),
            _ => return Err(bad("holds an entry that says neither role nor application")),
        };
        // Sessions without a name are those that nobody thought of.
        if name.trim().is_empty() {
            return Err(bad("holds an entry without a name"));
        }
        if name.trim() != name || name.contains(char::is_control) {
            return Err(bad("holds a name with blanks around it or a control character: names are compared byte for byte"));
        }
        Ok(ignored)
    }

    /// The roles of these.
    #[cfg_attr(not(any(feature = "postgres", feature = "mysql")), allow(dead_code))]
    pub(crate) fn roles(all: &[Ignored]) -> Vec<&str> {
        all.iter().filter_map(|i| if let Ignored::Role(name) = i { Some(&**name) } else { None }).collect()
    }

    /// The applications of these.
    #[cfg_attr(not(any(feature = "postgres", feature = "mysql")), allow(dead_code))]
    pub(crate) fn applications(all: &[Ignored]) -> Vec<&str> {
        all.iter().filter_map(|i| if let Ignored::Application(name) = i { Some(&**name) } else { None }).collect()
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ignored::Role(name) => write!(f, "role:{name}"),
            Ignored::Application(name) => write!(f, "application:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_says_what_it_means_and_whom() {
        for text in ["role:reporting", "application:metabase", "role:a:b", "application:My App"] {
            assert_eq!(Ignored::parse(text).unwrap().to_string(), text);
        }
        for text in
            ["", "reporting", "user:reporting", "role:", "role: ", "application:", "role: reporting", "Role:reporting", "role:a\n", ":x"]
        {
            let e = Ignored::parse(text).unwrap_err();
            assert_eq!(e.kind(), Kind::Config, "{text:?}");
            assert!(e.full().contains(&format!("in: barrier, ignore: {text:?}")), "it names place and value: {}", e.full());
        }
    }
}
