//! django-simple-history: each model has a table of its history, whose `FileField` is a text; a deleted row is written
//! there first.
//! Source (jazzband/django-simple-history): simple_history/models.py (`transform_field`, `history_type` `+`, `~`, `-`),
//! management command clean_old_history.

use rowbound_testkit::Backend;

use crate::site::{ODD, Site};

pub async fn site() -> Site {
    let mut site = Site::new("simple-history", Backend::Sqlite, &[("default", "media")]).await;
    let history = "history_id integer not null primary key autoincrement,
        history_date datetime not null default current_timestamp, history_change_reason varchar(100),
                   history_type varchar(1) not null, history_user_id integer";
    site.schema(&format!(
        "create table django_migrations (id integer not null primary key autoincrement, app varchar(255) not null, name
          varchar(255) not null, applied datetime not null default current_timestamp);
         create table blog_article (id integer not null primary key autoincrement, title varchar(200) not null, image
           varchar(100) not null, gallery text not null default '[]');
         create table blog_historicalarticle (id bigint not null, title varchar(200) not null, image text not null,
           gallery text not null default '[]', {history});
         create table blog_paper (id integer not null primary key autoincrement, title varchar(200) not null, file
           varchar(100) not null);
         create table blog_historicalpaper (id bigint not null, title varchar(200) not null, file text not null,
           {history});
         create table django_admin_log (id integer not null primary key autoincrement, object_id text, object_repr
           varchar(200) not null, action_flag smallint not null, change_message text not null);",
    ));
    for n in 1..=70 {
        let id = n.to_string();
        let file = match n {
            30..38 => format!("images/{}", ODD[n - 30]),
            _ => format!("images/photo_{n}.jpg"),
        };
        let article = [("id", &*id), ("title", "an article"), ("image", &*file)];
        site.row("blog_article", &article);
        site.row("blog_historicalarticle", &[&article[..], &[("history_type", "+")]].concat());
        match n {
            1..=5 => site.goes(&format!("media/{file}"), "article and history are deleted"),
            6..=10 => {
                site.later_row("blog_historicalarticle", &[&article[..], &[("history_type", "-")]].concat());
                site.stays(&format!("media/{file}"), "its article is deleted; the history keeps it");
            }
            _ => site.stays(&format!("media/{file}"), "blog_article.image"),
        }
    }
    site.later("delete from blog_article where id <= 10");
    // `manage.py clean_old_history`
    site.later("delete from blog_historicalarticle where id <= 5");
    // Imported without `save()`: this model has no history yet.
    for n in 1..=20 {
        let (id, file) = (n.to_string(), format!("papers/paper {n}.pdf"));
        site.row("blog_paper", &[("id", &id), ("title", "a paper"), ("file", &file)]);
        if n <= 3 {
            site.later_row("blog_historicalpaper", &[("id", &id), ("title", "a paper"), ("file", &file), ("history_type", "-")]);
            site.stays(&format!("media/{file}"), "blog_historicalpaper.file, which was empty at `attach`");
        } else {
            site.stays(&format!("media/{file}"), "blog_paper.file");
        }
    }
    site.later("delete from blog_paper where id <= 3");
    // Two spellings of one file, and one of them is deleted.
    for (n, (one, other, file)) in [
        ("images/slash.jpg", "/images/slash.jpg", "images/slash.jpg"),
        ("images/dot.jpg", "./images/dot.jpg", "images/dot.jpg"),
        ("images/double.jpg", "images//double.jpg", "images/double.jpg"),
        ("images/blank.jpg", "images/blank.jpg ", "images/blank.jpg"),
        ("images/Mo\u{308}we.jpg", "images/M\u{f6}we.jpg", "images/Mo\u{308}we.jpg"),
    ]
    .into_iter()
    .enumerate()
    {
        for (id, name) in [(100 + n, one), (200 + n, other)] {
            site.row("blog_article", &[("id", &id.to_string()), ("title", "one of two"), ("image", name)]);
        }
        site.later(&format!("delete from blog_article where id = {}", 100 + n));
        site.stays(&format!("media/{file}"), "another row has it under another spelling");
    }
    // A list of names in a text, of one article.
    site.row(
        "blog_article",
        &[
            ("id", "300"),
            ("title", "a gallery"),
            ("image", "images/photo_40.jpg"),
            ("gallery", r#"[{"src": "images/first of two.jpg"}, {"src": "images/second of two.jpg"}]"#),
        ],
    );
    for file in ["images/first of two.jpg", "images/second of two.jpg"] {
        site.stays(&format!("media/{file}"), "one of 81 values of blog_article.gallery");
    }
    site.row("django_admin_log", &[("object_id", "1"), ("object_repr", "images/logged.jpg"), ("action_flag", "3"), ("change_message", "")]);
    site.either("media/images/logged.jpg", "a log alone mentions it");
    for n in 0..4 {
        site.goes(&format!("media/images/stray_{n}.jpg"), "an upload without a row");
    }
    site
}
