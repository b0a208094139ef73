//! Columns of SeaORM 2: `String` columns of entities. A field that may be NULL is an `Option`.

use sea_orm::{
    ColIdx, QueryResult, TryGetError, TryGetable, Value,
    sea_query::{ArrayType, ColumnType, Nullable, StringLen, ValueType, ValueTypeErr},
};

use super::{File, ImageFile, of_a_row};

macro_rules! column {
    ($name:ident) => {
        impl From<$name> for Value {
            fn from(value: $name) -> Value {
                value.0.into()
            }
        }

        impl From<&$name> for Value {
            fn from(value: &$name) -> Value {
                value.0.clone().into()
            }
        }

        impl TryGetable for $name {
            fn try_get_by<I: ColIdx>(row: &QueryResult, index: I) -> Result<Self, TryGetError> {
                <String as TryGetable>::try_get_by(row, index).map(of_a_row)
            }
        }

        impl ValueType for $name {
            fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
                <String as ValueType>::try_from(value).map(of_a_row)
            }

            fn type_name() -> String {
                stringify!($name).to_owned()
            }

            fn array_type() -> ArrayType {
                ArrayType::String
            }

            fn column_type() -> ColumnType {
                ColumnType::String(StringLen::None)
            }
        }

        impl Nullable for $name {
            fn null() -> Value {
                <String as Nullable>::null()
            }
        }

        impl sea_orm::IntoActiveValue<$name> for $name {
            fn into_active_value(self) -> sea_orm::ActiveValue<$name> {
                sea_orm::ActiveValue::Set(self)
            }
        }
    };
}

column!(File);
column!(ImageFile);
