//! Values: what stands in a row.
//!
//! In: a name that `save` gave, or a column's text. Out: [`File`] and [`ImageFile`], text underneath. Promise: a value is made only by saving
//! bytes or by reading a row, never out of what a client sent; a row is read whatever stands in it.

use std::fmt;

use rowbound::{FileName, Refused};

#[cfg(feature = "diesel")]
mod for_diesel; // columns of Diesel
#[cfg(feature = "sea-orm")]
mod for_sea_orm; // columns of SeaORM
#[cfg(feature = "serde")]
mod for_serde; // out as text; in only where the text is trusted
#[cfg(feature = "sqlx")]
mod for_sqlx; // columns of sqlx

#[cfg(feature = "serde")]
pub use for_serde::trusted;

/// What can be the value of a field: [`File`] and [`ImageFile`].
pub trait Value: Clone + fmt::Debug + Send + Sync + sealed::Made + 'static {
    /// The text as it stands in the row.
    fn as_str(&self) -> &str;

    /// The name, if the text is one. An empty text (a field without a file) is none.
    ///
    /// # Errors
    /// [`Refused`] says why not.
    fn name(&self) -> Result<FileName, Refused> {
        FileName::parse(self.as_str())
    }

    /// Whether the row names no file.
    fn is_blank(&self) -> bool {
        self.as_str().is_empty()
    }
}

pub(crate) mod sealed {
    /// Made by this crate alone.
    pub trait Made {
        /// Of a file that is there.
        fn made(name: String) -> Self;
        /// Whether it must be a picture.
        const IMAGE: bool;
    }
}

macro_rules! value {
    ($(#[$doc:meta])* $name:ident, $image:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "diesel", derive(diesel::expression::AsExpression, diesel::deserialize::FromSqlRow))]
        #[cfg_attr(feature = "diesel", diesel(sql_type = diesel::sql_types::Text))]
        pub struct $name(pub(crate) String);

        impl $name {
            /// The value of a column that has no NULL and no file: an empty text.
            pub fn blank() -> Self {
                $name(String::new())
            }

            /// The text as it stands in the row.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl sealed::Made for $name {
            const IMAGE: bool = $image;

            fn made(name: String) -> Self {
                $name(name)
            }
        }

        impl Value for $name {
            fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }
    };
}

value! {
    /// The value of a field that holds any file: its name, as it stands in the row. Made by [`crate::Files::save`] or by reading a row.
    File, false
}

value! {
    /// The value of a field that holds a picture: its name, as it stands in the row. Made by [`crate::Files::save`] or by reading a row.
    ImageFile, true
}

/// Whoever reads a row may read it through text: an odd value must not keep a whole row from being read, so nothing is checked here.
#[cfg(any(feature = "sqlx", feature = "sea-orm", feature = "diesel", feature = "serde"))]
pub(crate) fn of_a_row<T: sealed::Made>(text: String) -> T {
    T::made(text)
}
