//! What the derives and `#[receiver]` make of each format of entities; the order of receivers, and what their refusal does.

use std::sync::Mutex;

use rowbound_files::Arrival;
use rowbound_orm::{AnyField, BoxError, Conn, PostSave, PreDelete, PreSave, Tracked, receiver};
use rowbound_testkit::{Backend, TestDb};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ConnectionTrait, Database, DatabaseConnection, EntityTrait, ModelTrait, PaginatorTrait, Schema,
    TransactionTrait,
};

/// With relations as fields, and everything that `#[file]` takes.
mod dense {
    use rowbound_orm::{File, Files, ImageFile};
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Files)]
    #[sea_orm(table_name = "derive_dense")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub title: String,
        #[sea_orm(column_name = "pic_file", enum_name = "Pic")]
        #[file(upload_to = "%Y/", storage = "pictures", resize_to_fill(10, 20, anchor = "tl", upscale = false), format = "png")]
        pub picture: Option<ImageFile>,
        #[file(upload_to = super::by_type, accept("application/pdf", "text/*"), max_size = "2MB", max_length = 64, blank, keep("defaults/*"))]
        pub r#type: File,
        #[sea_orm(has_many)]
        pub parts: HasMany<super::compact::Entity>,
    }
}

fn by_type(arrival: &Arrival) -> String {
    format!("{}/{}", arrival.media_type, arrival.name)
}

/// With relations beside the fields, and signals of the application's own kind.
mod compact {
    use rowbound_orm::{File, Files};
    use sea_orm::entity::prelude::*;

    #[sea_orm::compact_model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Files)]
    #[sea_orm(table_name = "derive_compact")]
    #[rowbound(no_behavior)]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub dense_id: i32,
        #[file]
        pub body: File,
        pub dense: HasOne<super::dense::Entity>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {
        #[sea_orm(belongs_to = "super::dense::Entity", from = "Column::DenseId", to = "super::dense::Column::Id")]
        Dense,
    }

    impl Related<super::dense::Entity> for Entity {
        fn to() -> RelationDef {
            Relation::Dense.def()
        }
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// As SeaORM's own generator writes them by default: everything by name; with an `ActiveModelBehavior` of the application's own that sends signals.
mod expanded {
    use rowbound_orm::{File, Files, behavior};
    use sea_orm::entity::prelude::*;

    #[derive(Copy, Clone, Default, Debug, DeriveEntity)]
    pub struct Entity;

    impl EntityName for Entity {
        fn table_name(&self) -> &'static str {
            "derive_expanded"
        }
    }

    #[derive(Clone, Debug, PartialEq, Eq, DeriveModel, DeriveActiveModel, Files)]
    #[rowbound(no_behavior)]
    pub struct Model {
        pub id: i32,
        #[sea_orm(enum_name = "Text")]
        #[file]
        pub body: Option<File>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveColumn)]
    pub enum Column {
        Id,
        #[sea_orm(column_name = "body")]
        Text,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DerivePrimaryKey)]
    pub enum PrimaryKey {
        Id,
    }

    impl PrimaryKeyTrait for PrimaryKey {
        type ValueType = i32;

        fn auto_increment() -> bool {
            true
        }
    }

    #[derive(Copy, Clone, Debug, EnumIter)]
    pub enum Relation {}

    impl RelationTrait for Relation {
        fn def(&self) -> RelationDef {
            unreachable!("there is none")
        }
    }

    impl ColumnTrait for Column {
        type EntityName = Entity;

        fn def(&self) -> ColumnDef {
            match self {
                Self::Id => ColumnType::Integer.def(),
                Self::Text => ColumnType::string(None).def().nullable(),
            }
        }
    }

    #[async_trait::async_trait]
    impl ActiveModelBehavior for ActiveModel {
        async fn before_save<C: ConnectionTrait>(self, db: &C, insert: bool) -> Result<Self, DbErr> {
            behavior::before_save(self, db, insert).await
        }
    }
}

#[test]
fn a_columns_declaration_is_what_its_attribute_says() {
    assert_eq!(dense::Model::PICTURE.field().column(), "derive_dense.pic_file");
    assert_eq!(dense::Model::TYPE.field().column(), "derive_dense.type");
    assert_eq!(compact::Model::BODY.field().column(), "derive_compact.body");
    let fields = |all: Vec<AnyField>| all.iter().map(|field| format!("{field:?}")).collect::<Vec<_>>();
    assert_eq!(
        fields(dense::Entity::files()),
        [
            r#"Image(Field { column: "derive_dense.pic_file", storage: "pictures", .. })"#,
            r#"File(Field { column: "derive_dense.type", storage: "default", .. })"#
        ]
    );
    let kept = dense::Model::TYPE.field();
    assert_eq!((kept.limit(), kept.binding().unwrap().keep), (2_000_000, vec!["defaults/*".to_owned()]));
    assert_eq!(expanded::Model::BODY.field().column(), "derive_expanded.body");
}

#[tokio::test]
async fn without_a_rowbound_saving_says_what_to_start() {
    let e = dense::Model::TYPE.save(rowbound_orm::Upload::bytes("a.txt", "a")).await.unwrap_err();
    assert!(e.full().contains("no Rowbound is started that has this column"), "{}", e.full());
    assert!(e.hint_text().is_some_and(|hint| hint.contains("Rowbound::start(&db)")), "{e:?}");
}

static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn hear(what: impl Into<String>) -> Result<(), BoxError> {
    HEARD.lock().unwrap().push(what.into());
    Ok(())
}

fn heard() -> Vec<String> {
    std::mem::take(&mut *HEARD.lock().unwrap())
}

#[receiver(PreSave, order = 10)]
async fn a_late(row: &mut dense::ActiveModel, _db: &Conn<'_>, created: bool) -> Result<(), BoxError> {
    hear(format!("late {} {created}", row.title.as_ref()))
}

#[receiver(PreSave)]
async fn b_second(_row: &mut dense::ActiveModel) -> Result<(), BoxError> {
    hear("second")
}

#[receiver(PreSave)]
async fn a_first(row: &mut dense::ActiveModel, _db: &Conn<'_>) -> Result<(), BoxError> {
    row.title = Set(row.title.as_ref().trim().to_owned());
    hear("first")
}

#[receiver(PreSave, order = -1)]
async fn z_before_all(_row: &mut dense::ActiveModel) -> Result<(), BoxError> {
    hear("before")
}

#[receiver(PostSave, manual)]
async fn refuses(row: &dense::Model) -> Result<(), BoxError> {
    match row.title.as_str() {
        "bad" => Err("it is bad".into()),
        _ => hear("saved"),
    }
}

#[receiver(PostDelete)]
async fn forgets(row: &expanded::Model) -> Result<(), BoxError> {
    hear(format!("gone {}", row.id))
}

async fn made() -> (TestDb, DatabaseConnection) {
    let kept = TestDb::new(Backend::Sqlite).await;
    let db = Database::connect(kept.url()).await.expect("the database");
    let schema = Schema::new(db.get_database_backend());
    for create in [
        schema.create_table_from_entity(dense::Entity),
        schema.create_table_from_entity(compact::Entity),
        schema.create_table_from_entity(expanded::Entity),
    ] {
        db.execute(&create).await.expect("a table");
    }
    (kept, db)
}

fn titled(title: &str) -> dense::ActiveModel {
    dense::ActiveModel { title: Set(title.to_owned()), r#type: Set(rowbound_orm::File::blank()), ..Default::default() }
}

#[tokio::test]
async fn receivers_are_called_in_order_and_may_change_the_row() {
    let (_kept, db) = made().await;
    let row = titled("  a title ").insert(&db).await.unwrap();
    assert_eq!(row.title, "a title");
    assert_eq!(heard(), ["before", "first", "second", "late a title true"]);
    // Connected while the program runs: after those with a name, and away again.
    let last = PreSave::connect::<dense::Entity>(|_, _, _| Box::pin(async { hear("last") }));
    assert!(b_second::disconnect() && !b_second::disconnect());
    dense::ActiveModel { id: Set(row.id), title: Set("other".into()), ..Default::default() }.update(&db).await.unwrap();
    assert_eq!(heard(), ["before", "first", "last", "late other false"]);
    assert!(last.disconnect());
    b_second::connect();
    b_second::connect();
    titled("x").insert(&db).await.unwrap();
    assert_eq!(heard(), ["before", "first", "second", "late x true"]);
}

#[tokio::test]
async fn a_refusal_ends_the_statement_and_its_transaction() {
    let (_kept, db) = made().await;
    refuses::connect();
    let transaction = db.begin().await.unwrap();
    titled("good").insert(&transaction).await.unwrap();
    let e = titled("bad").insert(&transaction).await.unwrap_err();
    assert!(e.to_string().contains("derive::refuses refused PostSave of derive_dense: it is bad"), "{e}");
    drop(transaction);
    assert_eq!(dense::Entity::find().count(&db).await.unwrap(), 0, "what was written before went with it");
    // A nested save of SeaORM is a transaction of its own.
    let nested = dense::ActiveModel::builder().set_title("bad").set_type(rowbound_orm::File::blank());
    assert!(nested.insert(&db).await.is_err());
    assert_eq!(dense::Entity::find().count(&db).await.unwrap(), 0);
    // Before the statement: nothing is written.
    let never = PreDelete::connect::<dense::Entity>(|_, _| Box::pin(async { Err("never".into()) }));
    let row = titled("good").insert(&db).await.unwrap();
    assert!(row.clone().delete(&db).await.is_err());
    assert_eq!(dense::Entity::find().count(&db).await.unwrap(), 1);
    assert!(never.disconnect());
    row.delete(&db).await.unwrap();
    assert!(refuses::disconnect());
    heard();
}

#[tokio::test]
async fn an_application_with_a_behavior_of_its_own_sends_what_it_calls() {
    let (_kept, db) = made().await;
    PreSave::connect::<expanded::Entity>(|_, _, created| Box::pin(async move { hear(format!("expanded {created}")) }));
    PostSave::connect::<expanded::Entity>(|_, _, _| Box::pin(async { hear("never called") }));
    PreSave::connect::<compact::Entity>(|_, _, _| Box::pin(async { hear("never called") }));
    let row = expanded::ActiveModel { body: Set(None), ..Default::default() }.insert(&db).await.unwrap();
    assert_eq!(heard(), ["expanded true"]);
    // Its own delete sends nothing, because it does not say so; a query's delete always does.
    let id = row.id;
    use rowbound_orm::RowDelete;
    row.delete_related(&db).await.unwrap();
    assert_eq!(heard(), [format!("gone {id}")]);
}
