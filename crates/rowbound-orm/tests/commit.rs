//! Receivers after the commit: they hear of files that are gone, at least once, and never of a delete that was rolled back.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use rowbound::Trash;
use rowbound_orm::{BoxError, Gone, OnCommit, QueryDelete, Rowbound, Upload, receiver};
use rowbound_testkit::{Backend, World, wait_until};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ConnectionTrait, Database, DatabaseConnection, EntityTrait, ModelTrait, Schema, TransactionTrait,
};

const DEADLINE: Duration = Duration::from_secs(60);

mod paper {
    use rowbound_orm::{File, Files};
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel, Files)]
    #[sea_orm(table_name = "paper")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        #[file(upload_to = "papers")]
        pub body: File,
    }
}

mod letter {
    use rowbound_orm::{File, Files};
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel, Files)]
    #[sea_orm(table_name = "letter")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        #[file(upload_to = "letters")]
        pub body: File,
    }
}

/// By receiver: the names that it heard, with how often.
static HEARD: Mutex<BTreeMap<&str, BTreeMap<String, usize>>> = Mutex::new(BTreeMap::new());
static DOWN: AtomicBool = AtomicBool::new(false);

fn hear(receiver: &'static str, name: &str) {
    *HEARD.lock().unwrap().entry(receiver).or_default().entry(name.to_owned()).or_default() += 1;
}

fn heard(receiver: &str) -> Vec<String> {
    HEARD.lock().unwrap().get(receiver).map(|names| names.keys().cloned().collect()).unwrap_or_default()
}

#[receiver(OnCommit)]
async fn of_papers(gone: &Gone<paper::Entity>) -> Result<(), BoxError> {
    assert_eq!((gone.column(), gone.storage.as_str()), ("paper.body", "default"));
    assert!(gone.event == "delete" || gone.event == "update", "{gone:?}");
    assert!(gone.key.is_some() && gone.size.is_some() && !gone.id().is_empty(), "{gone:?}");
    hear("papers", &gone.name);
    Ok(())
}

#[receiver(OnCommit, name = "mail")]
async fn of_letters(gone: &Gone<letter::Entity>) -> Result<(), BoxError> {
    if DOWN.load(SeqCst) {
        return Err(format!("no mail today, attempt {}", gone.attempts()).into());
    }
    hear("letters", &gone.name);
    Ok(())
}

async fn saved(db: &DatabaseConnection, name: &str) -> (paper::Model, letter::Model) {
    let upload = || Upload::bytes(name, name.to_owned());
    let body = paper::Model::BODY.save(upload()).await.unwrap_or_else(|e| panic!("{}", e.full()));
    let paper = paper::ActiveModel { body: Set(body), ..Default::default() }.insert(db).await.expect("a paper");
    let body = letter::Model::BODY.save(upload()).await.unwrap_or_else(|e| panic!("{}", e.full()));
    let letter = letter::ActiveModel { body: Set(body), ..Default::default() }.insert(db).await.expect("a letter");
    (paper, letter)
}

/// Waits until the uploads are known to have rows: one that is deleted in the same moment as its row came may be told as an upload without a row.
async fn settled(rowbound: &Rowbound) {
    wait_until(DEADLINE, "the uploads are settled", async || rowbound.health().await.is_some_and(|health| health.backlog == Some(0))).await;
}

async fn heard_after_the_commit(backend: Backend) {
    let world =
        World::new(backend).await.storage(|s| s.min_age(Duration::from_secs(1)).stage_ttl(Duration::from_secs(1)).trash(Trash::Off));
    let db = Database::connect(world.db.url()).await.expect("the database");
    let schema = Schema::new(db.get_database_backend());
    for create in [schema.create_table_from_entity(paper::Entity), schema.create_table_from_entity(letter::Entity)] {
        db.execute(&create).await.expect("a table");
    }
    let media = world.media();
    OnCommit::connect::<paper::Entity>("looks", move |gone| {
        let gone_already = !media.join(&gone.name).exists();
        Box::pin(async move {
            assert!(gone_already, "it is heard when the file is gone");
            hear("looks", &gone.name);
            Ok(())
        })
    });
    let start = async || {
        let started = Rowbound::builder(&db).unwrap().storage(world.storage.clone()).attach(true).start().await;
        started.unwrap_or_else(|e| panic!("{}", e.full()))
    };
    let rowbound = start().await;

    // Rolled back: nothing is heard, however long ago. Shared: not when the first row goes.
    let (kept, _) = saved(&db, "kept").await;
    let transaction = db.begin().await.unwrap();
    kept.clone().delete(&transaction).await.unwrap();
    transaction.rollback().await.unwrap();
    let (paper, letter) = saved(&db, "gone").await;
    settled(&rowbound).await;
    let copy = paper::ActiveModel { body: Set(paper.body.clone()), ..Default::default() }.insert(&db).await.unwrap();
    paper.delete(&db).await.unwrap();
    letter.delete(&db).await.unwrap();
    wait_until(DEADLINE, "the letter is heard of", async || heard("letters") == ["letters/gone"]).await;
    assert!(heard("papers").is_empty(), "a file that another row names");
    copy.delete(&db).await.unwrap();
    wait_until(DEADLINE, "the paper is heard of", async || heard("papers") == ["papers/gone"] && heard("looks") == ["papers/gone"]).await;

    // A receiver that fails keeps no other waiting, and hears it from the next process.
    DOWN.store(true, SeqCst);
    let (paper, letter) = saved(&db, "later").await;
    settled(&rowbound).await;
    paper::Entity::find_by_id(paper.id).delete(&db).await.unwrap();
    db.execute_unprepared(&format!("delete from letter where id = {}", letter.id)).await.unwrap();
    wait_until(DEADLINE, "the other is heard of", async || heard("papers") == ["papers/gone", "papers/later"]).await;
    let followers = || async { rowbound.media().database().followers().await.expect("the followers") };
    wait_until(DEADLINE, "it has failed", async || followers().await.iter().any(|f| f.name == "mail" && f.failing == 1)).await;
    let failing = followers().await.into_iter().find(|f| f.name == "mail").unwrap();
    assert!(failing.sample[0].note.as_ref().is_some_and(|note| note.contains("no mail today")), "{failing:?}");
    rowbound.stop().await;
    DOWN.store(false, SeqCst);
    let rowbound = start().await;
    wait_until(DEADLINE, "it is heard of after all", async || heard("letters") == ["letters/gone", "letters/later"]).await;
    rowbound.stop().await;
    assert!(HEARD.lock().unwrap().values().flat_map(BTreeMap::values).all(|times| *times == 1), "{HEARD:?}");
    assert!(!world.files().is_empty() && paper::Entity::find_by_id(kept.id).one(&db).await.unwrap().is_some());
    assert_eq!(heard("papers").len(), 2, "{HEARD:?}");
}

/// Two databases in a program: a receiver hears from the one that has its entity's files, and the other keeps nothing for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_follows_the_database_of_its_entity() {
    let mut followers = Vec::new();
    for module in ["commit::paper", "commit::letter"] {
        let world = World::new(Backend::Sqlite).await;
        let db = Database::connect(world.db.url()).await.expect("the database");
        let schema = Schema::new(db.get_database_backend());
        for create in [schema.create_table_from_entity(paper::Entity), schema.create_table_from_entity(letter::Entity)] {
            db.execute(&create).await.expect("a table");
        }
        let builder = Rowbound::builder(&db).unwrap().storage(world.storage.clone()).modules(module).attach(true);
        let rowbound = builder.start().await.unwrap_or_else(|e| panic!("{}", e.full()));
        let names = rowbound.media().database().followers().await.expect("the followers").into_iter().map(|f| f.name);
        followers.push(names.collect::<Vec<_>>());
        rowbound.stop().await;
    }
    assert_eq!(followers, [vec!["commit.of_papers"], vec!["mail"]]);
}

macro_rules! on {
    ($($module:ident $backend:ident),*) => { $(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_receiver_hears_after_the_commit_when_the_file_is_gone() {
                heard_after_the_commit(Backend::$backend).await;
            }
        }
    )* };
}

on!(sqlite Sqlite, postgres Postgres, mariadb Mariadb, mysql Mysql);
