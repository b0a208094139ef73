//! Which databases this build has: each is a feature of the crate.
//!
//! In: the URL of a database whose feature is off. Out: an error that names the database, its URL and the feature.

use super::redact;
use crate::error::{Error, Kind};

/// The error of a database whose feature is off.
pub(super) fn missing(scheme: &str, url: &str) -> Error {
    let (name, feature) = match scheme {
        "sqlite" => ("SQLite", "sqlite"),
        "postgres" | "postgresql" => ("PostgreSQL", "postgres"),
        _ => ("MySQL or MariaDB", "mysql"),
    };
    Error::new(Kind::Config, format!("this build knows no {name}")).with("database", redact(url)).hint(format!(
        "turn on the feature `{feature}` of the crate that you depend on; of the program: cargo install rowbound-cli --features {feature}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_not_built_in_is_named_with_its_feature() {
        for (url, name, feature) in [
            ("sqlite:db.sqlite3", "SQLite", "sqlite"),
            ("postgres://app:s3cret@db/shop", "PostgreSQL", "postgres"),
            ("mariadb://app:s3cret@db/shop", "MySQL or MariaDB", "mysql"),
        ] {
            let e = missing(url.split_once(':').unwrap().0, url);
            assert_eq!(e.kind(), Kind::Config);
            assert!(e.full().contains(&format!("this build knows no {name} (database: {}", &url[..6])), "{}", e.full());
            assert!(!e.full().contains("s3cret"), "{}", e.full());
            assert!(e.hint_text().unwrap().contains(&format!("`{feature}`")), "{e:?}");
        }
    }

    #[test]
    fn every_crate_has_a_feature_for_each_database() {
        for manifest in [
            include_str!("../../Cargo.toml"),
            include_str!("../../../rowbound-cli/Cargo.toml"),
            include_str!("../../../rowbound-files/Cargo.toml"),
            include_str!("../../../rowbound-orm/Cargo.toml"),
            include_str!("../../../rowbound-web/Cargo.toml"),
        ] {
            for feature in ["sqlite", "postgres", "mysql", "s3"] {
                assert!(manifest.contains(&format!("\n{feature} = [")), "{feature}: {manifest}");
            }
        }
    }
}
