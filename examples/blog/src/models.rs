//! The rows: articles with a picture each, posts with many.
//!
//! In: a database. Out: its tables, and a type for a row of each. A column of pictures is an `ImageFile`, and says itself what is done with a picture and where it
//! lies; its text is the file's name.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Schema};

/// `article`: a title and, perhaps, a picture.
pub mod article {
    use rowbound_orm::{Files, ImageFile};
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Files)]
    #[sea_orm(table_name = "article")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub title: String,
        #[file(upload_to = "%Y/%m/%d/", max_size = "20MB", thumbnail(300, 300), format = "jpeg", quality = 90)]
        pub image: Option<ImageFile>,
    }
}

/// `post`: a title, a text, and pictures in a table of their own.
pub mod post {
    use rowbound_orm::Signals;
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Signals)]
    #[sea_orm(table_name = "post")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub title: String,
        #[sea_orm(column_type = "Text")]
        pub text: String,
        #[sea_orm(has_many)]
        pub images: HasMany<super::post_image::Entity>,
    }
}

/// `post_image`: a picture of a post. It goes with its post.
pub mod post_image {
    use rowbound_orm::{Files, ImageFile};
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Files)]
    #[sea_orm(table_name = "post_image")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        #[sea_orm(indexed)]
        pub post_id: i32,
        #[file(
            upload_to = "posts/%Y/%m/%d/",
            max_size = "20MB",
            blank,
            resize_to_fit(1200, 1200, upscale = false),
            format = "jpeg",
            quality = 85
        )]
        pub image: ImageFile,
        #[sea_orm(belongs_to, from = "post_id", to = "id", on_delete = "Cascade")]
        pub post: BelongsTo<super::post::Entity>,
    }
}

/// Makes the tables that are not there yet.
///
/// # Errors
/// The database's.
pub async fn create_tables(db: &DatabaseConnection) -> Result<(), DbErr> {
    let backend = db.get_database_backend();
    if backend == DbBackend::Sqlite {
        // Who reads need not wait for who writes.
        db.execute_unprepared("pragma journal_mode = wal").await?;
    }
    let schema = Schema::new(backend);
    db.execute(schema.create_table_from_entity(article::Entity).if_not_exists()).await?;
    db.execute(schema.create_table_from_entity(post::Entity).if_not_exists()).await?;
    db.execute(schema.create_table_from_entity(post_image::Entity).if_not_exists()).await?;
    for mut index in schema.create_index_from_entity(post_image::Entity) {
        db.execute(index.if_not_exists()).await?;
    }
    Ok(())
}
