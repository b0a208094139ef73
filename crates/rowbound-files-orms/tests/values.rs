//! One type in the columns of sqlx, SeaORM and Diesel, in one binary and one table.

use rowbound_files::{Field, File, ImageFile, Media, Upload, Value};
use rowbound_testkit::{Backend, World};
use sea_orm::ActiveValue::{NotSet, Set};

mod doc {
    use rowbound_files::File;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "doc")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub file: File,
        pub title: Option<File>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod tables {
    diesel::table! {
        doc (id) {
            id -> Integer,
            file -> Text,
            title -> Nullable<Text>,
        }
    }
}

#[derive(diesel::Queryable, diesel::Insertable, Debug, PartialEq)]
#[diesel(table_name = tables::doc)]
struct Row {
    id: i32,
    file: File,
    title: Option<File>,
}

#[derive(sqlx::FromRow)]
struct SqlxRow {
    file: File,
    title: Option<ImageFile>,
}

#[tokio::test]
async fn every_orm_writes_and_reads_the_same_value() {
    let world = World::new(Backend::Sqlite).await.with_docs().await.storage(|s| s.min_age(std::time::Duration::from_secs(3600)));
    let field = Field::file("doc.file");
    let media = Media::builder(world.db.url()).storage(world.storage.clone()).field(&field).attach().await.unwrap();
    let files = media.files(&field).unwrap();
    let (mut saved, db) = (Vec::new(), world.db.file());
    for name in ["one é.txt", "two.txt", "three.txt"] {
        saved.push(files.save(Upload::bytes(name, &b"x"[..])).await.unwrap());
    }

    // sqlx
    let pool = sqlx::SqlitePool::connect(world.db.url()).await.unwrap();
    sqlx::query("insert into doc (id, file, title) values (1, ?, ?)").bind(&saved[0]).bind(None::<File>).execute(&pool).await.unwrap();
    // SeaORM
    let sea = sea_orm::Database::connect(format!("sqlite://{}", db.display())).await.unwrap();
    let model = doc::ActiveModel { id: Set(2), file: Set(saved[1].clone()), title: Set(Some(saved[1].clone())) };
    use sea_orm::EntityTrait;
    doc::Entity::insert(model).exec(&sea).await.unwrap();
    let _ = doc::ActiveModel { id: NotSet, ..Default::default() };
    // Diesel
    use diesel::{Connection, RunQueryDsl};
    let mut plain = diesel::SqliteConnection::establish(db.to_str().unwrap()).unwrap();
    let row = Row { id: 3, file: saved[2].clone(), title: None };
    diesel::insert_into(tables::doc::table).values(&row).execute(&mut plain).unwrap();

    // Each reads all, and the same.
    let by_sqlx: Vec<SqlxRow> = sqlx::query_as("select file, title from doc order by id").fetch_all(&pool).await.unwrap();
    assert_eq!(by_sqlx.iter().map(|r| r.file.clone()).collect::<Vec<_>>(), saved);
    assert_eq!(by_sqlx[1].title.as_ref().map(|t| t.as_str().to_owned()), Some(saved[1].to_string()));
    assert!(by_sqlx[0].title.is_none());
    use sea_orm::QueryOrder;
    let by_sea = doc::Entity::find().order_by_asc(doc::Column::Id).all(&sea).await.unwrap();
    assert_eq!(by_sea.iter().map(|r| r.file.clone()).collect::<Vec<_>>(), saved);
    assert_eq!((by_sea[0].title.clone(), by_sea[1].title.clone()), (None, Some(saved[1].clone())));
    use diesel::{ExpressionMethods, QueryDsl};
    let by_diesel: Vec<Row> = tables::doc::table.order(tables::doc::id).load(&mut plain).unwrap();
    assert_eq!(by_diesel.iter().map(|r| r.file.clone()).collect::<Vec<_>>(), saved);
    // As a filter, too.
    let found = doc::Entity::find().filter(sea_orm::ColumnTrait::eq(&doc::Column::File, saved[2].clone())).all(&sea).await.unwrap();
    assert_eq!(found.len(), 1);
    let found: Vec<Row> = tables::doc::table.filter(tables::doc::file.eq(&saved[0])).load(&mut plain).unwrap();
    assert_eq!(found.len(), 1);

    // What other programs have left in a row is read as it stands.
    for odd in ["", "/media/x", "a//b"] {
        sqlx::query("update doc set file = ? where id = 1").bind(odd).execute(&pool).await.unwrap();
        let (value,): (File,) = sqlx::query_as("select file from doc where id = 1").fetch_one(&pool).await.unwrap();
        assert_eq!(value.as_str(), odd);
        assert!(value.name().is_err());
        assert_eq!(value.is_blank(), odd.is_empty());
    }
    use sea_orm::QueryFilter;
    plain.begin_test_transaction().unwrap();
}

/// Shrine: a client may not name a stored file.
#[test]
fn values_go_out_as_text_and_come_in_only_where_that_is_said() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Cached {
        #[serde(deserialize_with = "rowbound_files::trusted")]
        file: File,
    }
    let cached: Cached = serde_json::from_str(r#"{"file":"a/b.jpg"}"#).unwrap();
    assert_eq!(cached.file.as_str(), "a/b.jpg");
    assert_eq!(serde_json::to_string(&cached).unwrap(), r#"{"file":"a/b.jpg"}"#);
}
