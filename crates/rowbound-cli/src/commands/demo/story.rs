//! The story, as a table: what the application does, and what rows and folder must hold afterwards.
//!
//! A step is over when the collector has drained. Then the rows must name exactly `rows`, the folder must hold exactly `rows` and
//! `unnamed`, every file must have the bytes that were uploaded last under its name, and nothing may wait in the queue.

use Act::{Kill, Other, Restore, Sql, Upload, UploadMany};

/// One step.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// What it is about.
    pub title: &'static str,
    /// What is done, in order.
    pub acts: &'static [Act],
    /// What the collector must say. `None` where that depends on the moment of a kill.
    pub collected: Option<&'static str>,
    /// The names that rows hold afterwards; each has its file.
    pub rows: &'static [&'static str],
    /// Files that stay without a row.
    pub unnamed: &'static [&'static str],
}

/// What the application, or somebody else, does.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    /// The application stores a picture under a name.
    Upload(&'static str, Picture),
    /// It stores so many under names that begin so: `{prefix}1.jpg`, `{prefix}2.jpg`, ..
    UploadMany(&'static str, usize),
    /// It runs a statement on its connection.
    Sql(&'static str),
    /// Another program does, on a connection of its own.
    Other(&'static str),
    /// A person brings a file back from the trash.
    Restore(&'static str),
    /// `rowbound collect` is started and killed by SIGKILL as soon as this file, the first of many, has gone.
    Kill(&'static str),
}

/// A 300x300 JPEG of quality 90.
pub type Picture = &'static [u8];
const CITY: Picture = include_bytes!("pictures/city.jpg");
const HARBOUR: Picture = include_bytes!("pictures/harbour.jpg");
const LIGHTHOUSE: Picture = include_bytes!("pictures/lighthouse.jpg");
const MEADOW: Picture = include_bytes!("pictures/meadow.jpg");
const MOUNTAIN: Picture = include_bytes!("pictures/mountain.jpg");
/// Also what [`Act::UploadMany`] stores.
pub const TEA: Picture = include_bytes!("pictures/tea.jpg");

/// The application's tables, as Django makes them for `Article`, `Post` and `PostImage`.
pub const SCHEMA: &[&str] = &[
    "create table blog_article (id integer primary key, title text not null, image text null)",
    "create table blog_post (id integer primary key, title text not null)",
    "create table blog_postimage (id integer primary key, image text not null, \
     post_id integer not null references blog_post (id) on delete cascade)",
    "create index blog_postimage_post on blog_postimage (post_id)",
];

const fn step(
    title: &'static str,
    acts: &'static [Act],
    collected: &'static str,
    rows: &'static [&'static str],
    unnamed: &'static [&'static str],
) -> Step {
    Step { title, acts, collected: Some(collected), rows, unnamed }
}

/// The story.
#[rustfmt::skip] // a table reads best as one
pub const STORY: &[Step] = &[
    step("An article is created with a picture",
        &[Upload("2026/11/21/lighthouse.jpg", LIGHTHOUSE),
          Sql("insert into blog_article values (1, 'By the sea', '2026/11/21/lighthouse.jpg')")],
        "nothing", &["2026/11/21/lighthouse.jpg"], &[]),
    step("The picture is replaced: the old one goes",
        &[Upload("2026/11/21/harbour.jpg", HARBOUR),
          Sql("update blog_article set image = '2026/11/21/harbour.jpg' where id = 1")],
        "1 trashed", &["2026/11/21/harbour.jpg"], &[]),
    step("A delete is rolled back: the file stays",
        &[Sql("begin"), Sql("delete from blog_article where id = 1"), Sql("rollback")],
        "nothing", &["2026/11/21/harbour.jpg"], &[]),
    step("A replacement is rolled back: the old picture stays (the new one, which no row ever named, is left alone)",
        &[Upload("2026/11/21/mountain.jpg", MOUNTAIN), Sql("begin"),
          Sql("update blog_article set image = '2026/11/21/mountain.jpg' where id = 1"), Sql("rollback")],
        "nothing", &["2026/11/21/harbour.jpg"], &["2026/11/21/mountain.jpg"]),
    step("Within a transaction, a savepoint takes back the one change and not the other",
        &[Sql("begin"), Sql("update blog_article set image = '2026/11/21/mountain.jpg' where id = 1"),
          Sql("savepoint s"), Sql("delete from blog_article"), Sql("rollback to s"), Sql("commit")],
        "1 trashed", &["2026/11/21/mountain.jpg"], &[]),
    step("Pictures are cleared, once with NULL and once with ''",
        &[Upload("2026/11/21/tea.jpg", TEA), Sql("insert into blog_article values (2, 'A break', '2026/11/21/tea.jpg')"),
          Sql("update blog_article set image = null where id = 1"), Sql("update blog_article set image = '' where id = 2")],
        "2 trashed", &[], &[]),
    step("QuerySet.update() sends no signal: the files go all the same",
        &[Upload("2026/11/21/city.jpg", CITY), Upload("2026/11/21/meadow.jpg", MEADOW), Upload("2026/11/21/tea.jpg", TEA),
          Sql("insert into blog_article values\n(3, 'Night', '2026/11/21/city.jpg'), (4, 'Day', '2026/11/21/meadow.jpg'), \
               (5, 'Noon', '2026/11/21/tea.jpg')"),
          Sql("update blog_article set image = '' where id in (3, 4)")],
        "2 trashed", &["2026/11/21/tea.jpg"], &[]),
    step("QuerySet.delete(): articles are deleted in bulk",
        &[Upload("2026/11/21/city.jpg", CITY), Upload("2026/11/21/meadow.jpg", MEADOW),
          Sql("insert into blog_article values (6, 'Dusk', '2026/11/21/city.jpg'), (7, 'Dawn', '2026/11/21/meadow.jpg')"),
          Sql("delete from blog_article where id < 7")],
        "2 trashed", &["2026/11/21/meadow.jpg"], &[]),
    step("Another program deletes by raw SQL: the application never hears of it",
        &[Other("delete from blog_article where id = 7")],
        "1 trashed", &[], &[]),
    step("A post has three pictures; one is deleted",
        &[Upload("2026/11/21/a.jpg", CITY), Upload("2026/11/21/b.jpg", HARBOUR), Upload("2026/11/21/c.jpg", MEADOW),
          Sql("insert into blog_post values (1, 'Journey')"),
          Sql("insert into blog_postimage values \n(1, '2026/11/21/a.jpg', 1), (2, '2026/11/21/b.jpg', 1), (3, '2026/11/21/c.jpg', 1)"),
          Sql("delete from blog_postimage where id = 2")],
        "1 trashed", &["2026/11/21/a.jpg", "2026/11/21/c.jpg"], &[]),
    step("The post is deleted and the database cascades: PostImage.delete() is never called, and the files go",
        &[Sql("delete from blog_post where id = 1")],
        "2 trashed", &[], &[]),
    step("Two rows share a file; one lets go of it: it stays",
        &[Upload("2026/11/21/shared.jpg", MOUNTAIN), Sql("insert into blog_post values (2, 'Alps'), (3, 'Alps again')"),
          Sql("insert into blog_postimage values (4, '2026/11/21/shared.jpg', 2), (5, '2026/11/21/shared.jpg', 3)"),
          Sql("delete from blog_post where id = 2")],
        "1 kept", &["2026/11/21/shared.jpg"], &[]),
    step("The last one lets go of it: it goes",
        &[Sql("delete from blog_postimage where id = 5")],
        "1 trashed", &[], &[]),
    step("A picture moves from an article to a post",
        &[Upload("2026/11/21/city.jpg", CITY), Sql("insert into blog_article values (8, 'City', '2026/11/21/city.jpg')"), Sql("begin"),
          Sql("update blog_article set image = null where id = 8"),
          Sql("insert into blog_postimage values (6, '2026/11/21/city.jpg', 3)"), Sql("commit")],
        "1 kept", &["2026/11/21/city.jpg"], &[]),
    step("Two rows swap their pictures in one statement",
        &[Upload("2026/11/21/tea.jpg", TEA), Sql("insert into blog_postimage values (7, '2026/11/21/tea.jpg', 3)"),
          Sql("update blog_postimage set image =\n\
               case id when 6 then '2026/11/21/tea.jpg' else '2026/11/21/city.jpg' end where id in (6, 7)")],
        "2 kept", &["2026/11/21/city.jpg", "2026/11/21/tea.jpg"], &[]),
    step("The field's default picture is protected by keep = [\"defaults/*\"]",
        &[Upload("defaults/cover.jpg", MEADOW), Sql("insert into blog_article values (9, 'Draft', 'defaults/cover.jpg')"),
          Sql("delete from blog_article where id = 9"), Sql("delete from blog_post where id = 3")],
        "2 trashed, 1 protected", &[], &["defaults/cover.jpg"]),
    step("A name is released, then another picture is uploaded under it: the new one stays",
        &[Upload("2026/11/21/cover.jpg", HARBOUR), Sql("insert into blog_article values (10, 'Old', '2026/11/21/cover.jpg')"),
          Sql("delete from blog_article where id = 10"),
          Upload("2026/11/21/cover.jpg", LIGHTHOUSE), Sql("insert into blog_article values (11, 'New', '2026/11/21/cover.jpg')")],
        "1 kept", &["2026/11/21/cover.jpg"], &["defaults/cover.jpg"]),
    step("A row is deleted by mistake: its file waits in the trash",
        &[Sql("delete from blog_article where id = 11")],
        "1 trashed", &[], &["defaults/cover.jpg"]),
    step("The file is restored, and a row references it again",
        &[Restore("2026/11/21/cover.jpg"), Sql("insert into blog_article values (12, 'New', '2026/11/21/cover.jpg')")],
        "nothing", &["2026/11/21/cover.jpg"], &["defaults/cover.jpg"]),
    Step {
        title: "A post with 600 pictures is deleted; the collector is killed in the middle, and the next one finishes",
        acts: &[UploadMany("2026/11/22/", 600), Sql("insert into blog_post values (4, 'Every day'), (5, 'The best')"),
            Sql("insert into blog_postimage (image, post_id)\n\
                 with recursive n (i) as (select 1 union all select i + 1 from n where i < 600)\n\
                 select '2026/11/22/' || i || '.jpg', 4 from n"),
            Sql("insert into blog_postimage (image, post_id) values ('2026/11/22/300.jpg', 5), ('2026/11/22/600.jpg', 5)"),
            Sql("delete from blog_post where id = 4"),
            Kill("2026/11/22/1.jpg")],
        collected: None,
        rows: &["2026/11/21/cover.jpg", "2026/11/22/300.jpg", "2026/11/22/600.jpg"],
        unnamed: &["defaults/cover.jpg"],
    },
];
