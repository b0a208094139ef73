//! Values in answers and in texts that are trusted.
//!
//! There is no `Deserialize`: a client that could send a name in a form could make a row reference somebody else's file, and have it deleted by deleting
//! the row. Where the text comes from a place of one's own (a cache, a queue), a field says so by [`trusted`].

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{File, ImageFile, of_a_row, sealed::Made};

macro_rules! text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }
    };
}

text!(File);
text!(ImageFile);

/// Reads a value out of a text that no client wrote: `#[serde(deserialize_with = "rowbound_files::trusted")]`.
///
/// # Errors
/// The format's, when it is no text.
pub fn trusted<'de, D: Deserializer<'de>, T: Made>(from: D) -> Result<T, D::Error> {
    String::deserialize(from).map(of_a_row)
}
