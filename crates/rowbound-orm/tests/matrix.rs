//! Every way in which SeaORM writes, and what comes of it: the signals that are sent, and whether the file goes with its row. The table in `docs/seaorm.md` is what this
//! test prints.

use std::{sync::Mutex, time::Duration};

use rowbound::{Binding, Trash, collect::Settings};
use rowbound_orm::{ImageFile, PostDelete, PostSave, PreDelete, PreSave, QueryDelete, RowDelete, Rowbound, Upload};
use rowbound_testkit::{Backend, World, wait_until};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, Database, DatabaseConnection, EntityTrait, IntoActiveModel,
    ModelTrait, QueryFilter, Schema, sea_query::Expr,
};

/// A picture of one pixel.
const GIF: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

const DEADLINE: Duration = Duration::from_secs(60);

/// The table's place in the documentation.
const MARKS: [&str; 2] = ["<!-- ways: begin -->\n", "<!-- ways: end -->\n"];

mod album {
    use rowbound_orm::Signals;
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel, Signals)]
    #[sea_orm(table_name = "way_album")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub title: String,
        #[sea_orm(has_many)]
        pub pics: HasMany<super::pic::Entity>,
    }
}

mod pic {
    use rowbound_orm::{Files, ImageFile};
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel, Files)]
    #[sea_orm(table_name = "way_pic")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub album_id: i32,
        #[file(upload_to = "pics/")]
        pub image: ImageFile,
        #[sea_orm(belongs_to, from = "album_id", to = "id", on_delete = "Cascade")]
        pub album: HasOne<super::album::Entity>,
    }
}

static HEARD: Mutex<Vec<&str>> = Mutex::new(Vec::new());

fn hear(what: &'static str) -> Result<(), rowbound_orm::BoxError> {
    HEARD.lock().unwrap().push(what);
    Ok(())
}

/// What was heard of pictures since the last call, with how often: `PreSave, PostSave x 2`.
fn heard() -> String {
    let all = std::mem::take(&mut *HEARD.lock().unwrap());
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for what in all {
        match counted.iter_mut().find(|(known, _)| *known == what) {
            Some((_, count)) => *count += 1,
            None => counted.push((what, 1)),
        }
    }
    let texts: Vec<String> =
        counted.iter().map(|(what, count)| if *count == 1 { (*what).to_owned() } else { format!("{what} x {count}") }).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

/// One way, what it sent, and the files of which it let go and which it kept.
struct Way {
    name: &'static str,
    heard: String,
    released: Vec<String>,
    kept: Vec<String>,
}

struct Ways {
    db: DatabaseConnection,
    done: Vec<Way>,
}

impl Ways {
    async fn save(&self) -> ImageFile {
        pic::Model::IMAGE.save(Upload::bytes("pixel.gif", GIF)).await.unwrap_or_else(|e| panic!("{}", e.full()))
    }

    async fn album(&self) -> album::Model {
        album::ActiveModel { title: Set("an album".into()), ..Default::default() }.insert(&self.db).await.expect("an album")
    }

    /// An album and a picture in it.
    async fn pic(&self) -> pic::Model {
        let album = self.album().await;
        self.pic_of(&album).await
    }

    async fn pic_of(&self, album: &album::Model) -> pic::Model {
        let image = self.save().await;
        let pic = pic::ActiveModel { album_id: Set(album.id), image: Set(image), ..Default::default() }
            .insert(&self.db)
            .await
            .expect("a picture");
        heard();
        pic
    }

    fn done(&mut self, name: &'static str, released: &[&ImageFile], kept: &[&ImageFile]) {
        let texts = |images: &[&ImageFile]| images.iter().map(|image| image.to_string()).collect();
        self.done.push(Way { name, heard: heard(), released: texts(released), kept: texts(kept) });
    }
}

async fn ways(backend: Backend) {
    let world =
        World::new(backend).await.storage(|s| s.min_age(Duration::from_secs(1)).stage_ttl(Duration::from_secs(1)).trash(Trash::Off));
    let world = world.bind(Binding::name("way_pic.image", "default").unwrap());
    let db = Database::connect(world.db.url()).await.expect("the database");
    let schema = Schema::new(db.get_database_backend());
    for create in [schema.create_table_from_entity(album::Entity), schema.create_table_from_entity(pic::Entity)] {
        db.execute(&create).await.expect("a table");
    }
    let rowbound =
        Rowbound::builder(&db).unwrap().storage(world.storage.clone()).modules("matrix").attach(true).collect(None).start().await;
    let rowbound = rowbound.unwrap_or_else(|e| panic!("{}", e.full()));
    PreSave::connect::<pic::Entity>(|_, _, _| Box::pin(async { hear("PreSave") }));
    PostSave::connect::<pic::Entity>(|_, _, _| Box::pin(async { hear("PostSave") }));
    PreDelete::connect::<pic::Entity>(|_, _| Box::pin(async { hear("PreDelete") }));
    PostDelete::connect::<pic::Entity>(|_, _| Box::pin(async { hear("PostDelete") }));
    let mut w = Ways { db, done: Vec::new() };

    let (album, image) = (w.album().await, w.save().await);
    let pic = pic::ActiveModel { album_id: Set(album.id), image: Set(image), ..Default::default() }.insert(&w.db).await.unwrap();
    w.done("`am.insert`", &[], &[&pic.image]);

    let pic = w.pic().await;
    let new = w.save().await;
    pic::ActiveModel { id: Set(pic.id), image: Set(new.clone()), ..Default::default() }.update(&w.db).await.unwrap();
    w.done("`am.update`", &[&pic.image], &[&new]);

    let pic = w.pic().await;
    let new = w.save().await;
    let mut am = pic.clone().into_active_model();
    am.image = Set(new.clone());
    am.save(&w.db).await.unwrap();
    w.done("`am.save`", &[&pic.image], &[&new]);

    let pic = w.pic().await;
    let new = w.save().await;
    let am = pic::ActiveModel { id: Set(pic.id), image: Set(new.clone()), ..Default::default() };
    am.update_without_returning(&w.db).await.unwrap();
    w.done("`am.update_without_returning`", &[&pic.image], &[&new]);

    let pic = w.pic().await;
    pic::ActiveModel { id: Set(pic.id), ..Default::default() }.delete(&w.db).await.unwrap();
    w.done("`am.delete`", &[&pic.image], &[]);

    let pic = w.pic().await;
    let image = pic.image.clone();
    pic.delete(&w.db).await.unwrap();
    w.done("`model.delete`", &[&image], &[]);

    let (one, two) = (w.save().await, w.save().await);
    let builder = album::ActiveModel::builder().set_title("nested");
    let builder = [&one, &two].into_iter().fold(builder, |b, image| b.add_pic(pic::ActiveModel::builder().set_image(image.clone())));
    builder.insert(&w.db).await.unwrap();
    w.done("nested builder: insert", &[], &[&one, &two]);

    let (one, two) = (w.save().await, w.save().await);
    let builder = album::ActiveModel::builder().set_title("nested");
    let builder = [&one, &two].into_iter().fold(builder, |b, image| b.add_pic(pic::ActiveModel::builder().set_image(image.clone())));
    let nested = builder.insert(&w.db).await.unwrap();
    heard();
    let three = w.save().await;
    let mut again = nested.into_active_model();
    again.pics.replace_all([pic::ActiveModel::builder().set_image(three.clone())]);
    again.save(&w.db).await.unwrap();
    w.done("nested builder: replace", &[&one, &two], &[&three]);

    let album = w.album().await;
    let (one, two) = (w.pic_of(&album).await, w.pic_of(&album).await);
    album.cascade_delete(&w.db).await.unwrap();
    w.done("`model.cascade_delete`", &[&one.image, &two.image], &[]);

    let album = w.album().await;
    let (one, two) = (w.save().await, w.save().await);
    let rows = [&one, &two].map(|image| pic::ActiveModel { album_id: Set(album.id), image: Set(image.clone()), ..Default::default() });
    pic::Entity::insert_many(rows).exec(&w.db).await.unwrap();
    w.done("`Entity::insert_many`", &[], &[&one, &two]);

    let pic = w.pic().await;
    let new = w.save().await;
    let update = pic::Entity::update_many().col_expr(pic::Column::Image, Expr::val(new.clone())).filter(pic::Column::Id.eq(pic.id));
    update.exec(&w.db).await.unwrap();
    w.done("`Entity::update_many`", &[&pic.image], &[&new]);

    let pic = w.pic().await;
    pic::Entity::delete_many().filter(pic::Column::Id.eq(pic.id)).exec(&w.db).await.unwrap();
    w.done("`Entity::delete_many`", &[&pic.image], &[]);

    let pic = w.pic().await;
    pic::Entity::delete_by_id(pic.id).exec(&w.db).await.unwrap();
    w.done("`Entity::delete_by_id`", &[&pic.image], &[]);

    let pic = w.pic().await;
    w.db.execute_unprepared(&format!("delete from way_pic where id = {}", pic.id)).await.unwrap();
    w.done("raw SQL", &[&pic.image], &[]);

    let pic = w.pic().await;
    w.db.execute_unprepared(&format!("delete from way_album where id = {}", pic.album_id)).await.unwrap();
    w.done("the database's cascade", &[&pic.image], &[]);

    let album = w.album().await;
    let (one, two) = (w.pic_of(&album).await, w.pic_of(&album).await);
    album::Entity::find().filter(album::Column::Id.eq(album.id)).delete(&w.db).await.unwrap();
    w.done("`select.delete` (`QueryDelete`)", &[&one.image, &two.image], &[]);

    let pic = w.pic().await;
    let album = album::Entity::find_by_id(pic.album_id).one(&w.db).await.unwrap().unwrap();
    album.delete_related(&w.db).await.unwrap();
    w.done("`model.delete_related` (`RowDelete`)", &[&pic.image], &[]);

    // Now only: SQLite lets no transaction write that has read before another wrote, and some of these ways are such transactions.
    let worker = rowbound.media().start(Settings::default());
    wait_until(DEADLINE, "files follow rows", async || world.files() == world.refs().await).await;
    worker.stop().await;
    let files = world.files();
    let yes = |way: &Way| way.kept.iter().all(|name| files.contains(name)) && !way.released.iter().any(|name| files.contains(name));
    let mut table = "| way | signals of the pictures | their files follow |\n| --- | --- | --- |\n".to_owned();
    for way in &w.done {
        assert!(yes(way), "{backend}, {}: released {:?}, kept {:?}, there are {files:?}", way.name, way.released, way.kept);
        table += &format!("| {} | {} | yes |\n", way.name, way.heard);
    }
    println!("{backend}:\n{table}");
    documented(&table);
}

/// `docs/seaorm.md` has exactly this table; `UPDATE_DOCS=1` writes it.
fn documented(table: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/seaorm.md");
    let text = std::fs::read_to_string(path).expect("docs/seaorm.md");
    let (before, rest) = text.split_once(MARKS[0]).expect("the table's beginning");
    let (known, after) = rest.split_once(MARKS[1]).expect("the table's end");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{}{table}{}{after}", MARKS[0], MARKS[1])).expect("docs/seaorm.md");
    } else {
        assert_eq!(known, table, "docs/seaorm.md is not what happens: UPDATE_DOCS=1 writes it");
    }
}

macro_rules! on {
    ($($module:ident $backend:ident),*) => { $(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn every_way_to_write_is_documented_and_files_follow() {
                ways(Backend::$backend).await;
            }
        }
    )* };
}

on!(sqlite Sqlite, postgres Postgres, mariadb Mariadb, mysql Mysql);
