//! Columns of Diesel 2.3: `Text`, on every backend whose `String` is one. A field that may be NULL is an `Option`.

use diesel::{
    backend::Backend,
    deserialize::{self, FromSql},
    serialize::{self, Output, ToSql},
    sql_types::Text,
};

use super::{File, ImageFile, of_a_row};

macro_rules! column {
    ($name:ident) => {
        impl<DB: Backend> ToSql<Text, DB> for $name
        where
            String: ToSql<Text, DB>,
        {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
                self.0.to_sql(out)
            }
        }

        impl<DB: Backend> FromSql<Text, DB> for $name
        where
            String: FromSql<Text, DB>,
        {
            fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
                String::from_sql(bytes).map(of_a_row)
            }
        }
    };
}

column!(File);
column!(ImageFile);
