//! What goes with a row: the cases of Django's own `tests/delete`, with the counts that they expect, on every database; and ours beside them.

use std::sync::Mutex;

use rowbound_orm::{Error, PostDelete, PreDelete, QueryDelete, RowDelete};
use rowbound_testkit::{Backend, TestDb};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ConnectionTrait, Database, DatabaseConnection, EntityTrait, PaginatorTrait, QueryFilter,
    QueryOrder, Schema, TransactionTrait,
};

/// An entity in the format of SeaORM 1, which many applications have.
macro_rules! entity {
    (
        $(#[$outer:meta])*
        $module:ident($($(#[$meta:meta])* $field:ident: $ty:ty),*) { $($(#[$relation:meta])* $variant:ident),* }
    ) => {
        pub mod $module {
            use rowbound_orm::Signals;
            use sea_orm::entity::prelude::*;

            #[derive(Clone, Debug, PartialEq, DeriveEntityModel, Signals)]
            $(#[$outer])*
            pub struct Model {
                $($(#[$meta])* pub $field: $ty),*
            }

            #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
            pub enum Relation { $($(#[$relation])* $variant),* }
        }
    };
}

/// The tables of Django's suite, by its names: `P` <- `R` <- `A`, by every rule there is.
mod tables {
    entity! { #[sea_orm(table_name = "del_p")] p(#[sea_orm(primary_key)] id: i32) {} }

    entity! {
        #[sea_orm(table_name = "del_r")]
        r(#[sea_orm(primary_key)] id: i32, p_id: Option<i32>) {
            #[sea_orm(belongs_to = "super::p::Entity", from = "Column::PId", to = "super::p::Column::Id", on_delete = "Cascade")] P
        }
    }

    entity! {
        #[sea_orm(table_name = "del_a")]
        #[rowbound(protect(Protect))]
        a(
            #[sea_orm(primary_key)] id: i32,
            cascade_id: Option<i32>,
            setnull_id: Option<i32>,
            #[sea_orm(default_value = 1)] setdefault_id: Option<i32>,
            protect_id: Option<i32>,
            restrict_id: Option<i32>,
            nothing_id: Option<i32>,
            cascade_p_id: Option<i32>
        ) {
            #[sea_orm(belongs_to = "super::r::Entity", from = "Column::CascadeId", to = "super::r::Column::Id", on_delete = "Cascade")] Cascade,
            #[sea_orm(belongs_to = "super::r::Entity", from = "Column::SetnullId", to = "super::r::Column::Id", on_delete = "SetNull")] SetNull,
            // The database of MySQL has no SET DEFAULT: there it is the application's alone.
            #[sea_orm(belongs_to = "super::r::Entity", from = "Column::SetdefaultId", to = "super::r::Column::Id", on_delete = "SetDefault", skip_fk)] SetDefault,
            #[sea_orm(belongs_to = "super::r::Entity", from = "Column::ProtectId", to = "super::r::Column::Id")] Protect,
            #[sea_orm(belongs_to = "super::r::Entity", from = "Column::RestrictId", to = "super::r::Column::Id", on_delete = "Restrict")] Restrict,
            #[sea_orm(belongs_to = "super::r::Entity", from = "Column::NothingId", to = "super::r::Column::Id", on_delete = "NoAction")] Nothing,
            #[sea_orm(belongs_to = "super::p::Entity", from = "Column::CascadePId", to = "super::p::Column::Id", on_delete = "Cascade")] P
        }
    }

    // A diamond, whose bottom restricts one side and goes with the other.
    entity! { #[sea_orm(table_name = "del_top")] top(#[sea_orm(primary_key)] id: i32) {} }
    entity! {
        #[sea_orm(table_name = "del_left")]
        left(#[sea_orm(primary_key)] id: i32, top_id: i32) {
            #[sea_orm(belongs_to = "super::top::Entity", from = "Column::TopId", to = "super::top::Column::Id", on_delete = "Cascade")] Top
        }
    }
    entity! {
        #[sea_orm(table_name = "del_right")]
        right(#[sea_orm(primary_key)] id: i32, top_id: i32) {
            #[sea_orm(belongs_to = "super::top::Entity", from = "Column::TopId", to = "super::top::Column::Id", on_delete = "Cascade")] Top
        }
    }
    entity! {
        #[sea_orm(table_name = "del_bottom")]
        bottom(#[sea_orm(primary_key)] id: i32, left_id: i32, right_id: i32) {
            #[sea_orm(belongs_to = "super::left::Entity", from = "Column::LeftId", to = "super::left::Column::Id", on_delete = "Restrict")] Left,
            #[sea_orm(belongs_to = "super::right::Entity", from = "Column::RightId", to = "super::right::Column::Id", on_delete = "Cascade")] Right
        }
    }
    entity! {
        #[sea_orm(table_name = "del_leaf")]
        leaf(#[sea_orm(primary_key)] id: i32, left_id: i32, right_id: i32) {
            #[sea_orm(belongs_to = "super::left::Entity", from = "Column::LeftId", to = "super::left::Column::Id", on_delete = "Cascade")] Left,
            #[sea_orm(belongs_to = "super::right::Entity", from = "Column::RightId", to = "super::right::Column::Id", on_delete = "Cascade")] Right
        }
    }

    // Two tables that refer to each other.
    entity! {
        #[sea_orm(table_name = "del_hen")]
        hen(#[sea_orm(primary_key)] id: i32, egg_id: Option<i32>) {
            #[sea_orm(belongs_to = "super::egg::Entity", from = "Column::EggId", to = "super::egg::Column::Id", on_delete = "Cascade", skip_fk)] Egg
        }
    }
    entity! {
        #[sea_orm(table_name = "del_egg")]
        egg(#[sea_orm(primary_key)] id: i32, hen_id: Option<i32>) {
            #[sea_orm(belongs_to = "super::hen::Entity", from = "Column::HenId", to = "super::hen::Column::Id", on_delete = "Cascade")] Hen
        }
    }

    // Tables that refer to themselves.
    entity! {
        #[sea_orm(table_name = "del_tree")]
        tree(#[sea_orm(primary_key)] id: i32, parent_id: Option<i32>) {
            #[sea_orm(belongs_to = "Entity", from = "Column::ParentId", to = "Column::Id", on_delete = "Cascade")] Parent
        }
    }
    entity! {
        #[sea_orm(table_name = "del_reply")]
        reply(#[sea_orm(primary_key)] id: i32, to_id: Option<i32>) {
            #[sea_orm(belongs_to = "Entity", from = "Column::ToId", to = "Column::Id", on_delete = "SetNull")] To
        }
    }

    // Inheritance over tables.
    entity! { #[sea_orm(table_name = "del_place")] place(#[sea_orm(primary_key)] id: i32) {} }
    entity! {
        #[sea_orm(table_name = "del_bar")]
        #[rowbound(extends(Place))]
        bar(#[sea_orm(primary_key, auto_increment = false)] place_id: i32) {
            #[sea_orm(belongs_to = "super::place::Entity", from = "Column::PlaceId", to = "super::place::Column::Id", on_delete = "Cascade")] Place
        }
    }
    entity! {
        #[sea_orm(table_name = "del_visit")]
        visit(#[sea_orm(primary_key)] id: i32, place_id: Option<i32>, bar_id: Option<i32>) {
            #[sea_orm(belongs_to = "super::place::Entity", from = "Column::PlaceId", to = "super::place::Column::Id", on_delete = "Cascade")] Place,
            #[sea_orm(belongs_to = "super::bar::Entity", from = "Column::BarId", to = "super::bar::Column::PlaceId", on_delete = "Cascade")] Bar
        }
    }

    // Many to many, with a key of two columns.
    entity! { #[sea_orm(table_name = "del_m")] m(#[sea_orm(primary_key)] id: i32) {} }
    entity! {
        #[sea_orm(table_name = "del_m_r")]
        m_r(#[sea_orm(primary_key, auto_increment = false)] m_id: i32, #[sea_orm(primary_key, auto_increment = false)] r_id: i32) {
            #[sea_orm(belongs_to = "super::m::Entity", from = "Column::MId", to = "super::m::Column::Id", on_delete = "Cascade")] M,
            #[sea_orm(belongs_to = "super::r::Entity", from = "Column::RId", to = "super::r::Column::Id", on_delete = "Cascade")] R
        }
    }
    entity! {
        #[sea_orm(table_name = "del_note")]
        note(#[sea_orm(primary_key)] id: i32, m_id: i32, r_id: i32) {
            #[sea_orm(belongs_to = "super::m_r::Entity", from = "(Column::MId, Column::RId)", to = "(super::m_r::Column::MId, super::m_r::Column::RId)", on_delete = "Cascade")] Pair
        }
    }

    // Said at the other end alone, of a table that nobody has registered.
    entity! {
        #[sea_orm(table_name = "del_owner")]
        owner(#[sea_orm(primary_key)] id: i32) {
            #[sea_orm(has_many = "super::unknown::Entity", on_delete = "Cascade")] Unknown
        }
    }
    pub mod unknown {
        use sea_orm::entity::prelude::*;

        #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
        #[sea_orm(table_name = "del_unknown")]
        pub struct Model {
            #[sea_orm(primary_key)]
            pub id: i32,
            pub owner_id: i32,
        }

        #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
        pub enum Relation {
            #[sea_orm(
                belongs_to = "super::owner::Entity",
                from = "Column::OwnerId",
                to = "super::owner::Column::Id",
                on_delete = "Cascade",
                skip_fk
            )]
            Owner,
        }

        impl Related<super::owner::Entity> for Entity {
            fn to() -> RelationDef {
                Relation::Owner.def()
            }
        }

        impl ActiveModelBehavior for ActiveModel {}
    }

    // A column that refers to one that is no key, and a relation that cannot be.
    entity! { #[sea_orm(table_name = "del_coded")] coded(#[sea_orm(primary_key)] id: i32, #[sea_orm(unique)] code: String) {} }
    entity! {
        #[sea_orm(table_name = "del_by_code")]
        by_code(#[sea_orm(primary_key)] id: i32, code: String) {
            #[sea_orm(belongs_to = "super::coded::Entity", from = "Column::Code", to = "super::coded::Column::Code", on_delete = "Cascade")] Coded
        }
    }
    entity! { #[sea_orm(table_name = "del_firm")] firm(#[sea_orm(primary_key)] id: i32) {} }
    entity! {
        #[sea_orm(table_name = "del_firm_part")]
        firm_part(#[sea_orm(primary_key)] id: i32, firm_id: i32) {
            #[sea_orm(belongs_to = "super::firm::Entity", from = "Column::FirmId", to = "super::firm::Column::Id", on_delete = "SetNull", skip_fk)] Firm
        }
    }
}

use tables::*;

async fn made(backend: Backend) -> (TestDb, DatabaseConnection) {
    let db = TestDb::new(backend).await;
    let connection = Database::connect(db.url()).await.expect("the database");
    let schema = Schema::new(connection.get_database_backend());
    macro_rules! create {
        ($($module:ident),*) => { $(
            connection.execute(&schema.create_table_from_entity($module::Entity)).await.expect(stringify!($module));
        )* };
    }
    create!(
        p, r, a, top, left, right, bottom, leaf, hen, egg, tree, reply, place, bar, visit, m, m_r, note, owner, unknown, coded, by_code,
        firm, firm_part
    );
    (db, connection)
}

macro_rules! insert {
    ($db:expr, $module:ident { $($field:ident: $value:expr),* }) => {
        {
            #[allow(clippy::needless_update, reason = "some tables have no other columns")]
            let row = $module::ActiveModel { $($field: Set($value),)* ..Default::default() };
            row.insert($db).await.expect(stringify!($module))
        }
    };
}

macro_rules! left {
    ($db:expr, $($module:ident),*) => { [$($module::Entity::find().count($db).await.expect("a count")),*] };
}

fn counts(deleted: &rowbound_orm::Deleted) -> Vec<(String, u64)> {
    deleted.tables().map(|(table, count)| (table.trim_start_matches("del_").to_owned(), count)).collect()
}

macro_rules! expected {
    ($($table:literal: $count:literal),*) => { vec![$(($table.to_owned(), $count)),*] };
}

/// `on_delete` of each kind: Django's OnDeleteTests.
async fn each_rule(backend: Backend) {
    let (_kept, db) = made(backend).await;
    let db = &db;
    let fallback = insert!(db, r { p_id: None });
    assert_eq!(fallback.id, 1, "the default that SetDefault means");
    let gone = async |r: r::Model| r.delete_related(db).await;

    // CASCADE (test_auto, test_cascade, test_auto_nullable, test_cascade_nullable)
    let x = insert!(db, r { p_id: None });
    insert!(db, a { cascade_id: Some(x.id) });
    insert!(db, a { cascade_id: None });
    assert_eq!(counts(&gone(x).await.unwrap()), expected!["a": 1, "r": 1]);
    assert_eq!(left!(db, a), [1]);

    // SET_NULL (test_setnull), SET_DEFAULT (test_setdefault)
    let x = insert!(db, r { p_id: None });
    let nulled = insert!(db, a { setnull_id: Some(x.id) });
    let defaulted = insert!(db, a { setdefault_id: Some(x.id) });
    assert_eq!(counts(&gone(x).await.unwrap()), expected!["r": 1]);
    let now = |id| a::Entity::find_by_id(id).one(db);
    assert_eq!(now(nulled.id).await.unwrap().unwrap().setnull_id, None);
    assert_eq!(now(defaulted.id).await.unwrap().unwrap().setdefault_id, Some(1));

    // PROTECT (test_protect): nothing is changed, and the error names who holds it.
    let x = insert!(db, r { p_id: None });
    let holder = insert!(db, a { protect_id: Some(x.id) });
    match gone(x.clone()).await.unwrap_err() {
        Error::Protected(h) => {
            assert_eq!(
                (h.of.as_str(), h.table.as_str(), h.columns.as_str(), h.keys),
                ("del_r", "del_a", "protect_id", vec![holder.id.to_string()])
            );
        }
        other => panic!("{other}"),
    }
    assert_eq!(left!(db, r), [2]);
    // test_protect_path: P <- R by cascade, R <- A protected.
    let top = insert!(db, p {});
    let y = insert!(db, r { p_id: Some(top.id) });
    insert!(db, a { protect_id: Some(y.id) });
    assert!(matches!(top.delete_related(db).await, Err(Error::Protected(_))));
    assert_eq!(left!(db, p, r), [1, 3]);
    // test_protect_multiple: several hold it; five are named.
    for _ in 0..7 {
        insert!(db, a { protect_id: Some(x.id) });
    }
    match gone(x).await.unwrap_err() {
        Error::Protected(h) => assert_eq!(h.keys.len(), 5),
        other => panic!("{other}"),
    }

    // RESTRICT (test_restrict, test_restrict_path_cascade_indirect): held, unless the holder goes too (test_restrict_path_cascade_direct).
    let top = insert!(db, p {});
    let z = insert!(db, r { p_id: Some(top.id) });
    let held = insert!(db, a { restrict_id: Some(z.id) });
    assert!(matches!(gone(z.clone()).await, Err(Error::Restricted(_))));
    match top.clone().delete_related(db).await.unwrap_err() {
        Error::Restricted(h) => assert_eq!((h.columns.as_str(), h.keys), ("restrict_id", vec![held.id.to_string()])),
        other => panic!("{other}"),
    }
    a::ActiveModel { id: Set(held.id), cascade_p_id: Set(Some(top.id)), ..Default::default() }.update(db).await.unwrap();
    assert_eq!(counts(&top.delete_related(db).await.unwrap()), expected!["a": 1, "p": 1, "r": 1]);

    // DO_NOTHING (test_do_nothing): the database decides, and its refusal changes nothing.
    let x = insert!(db, r { p_id: None });
    let nothing = insert!(db, a { nothing_id: Some(x.id) });
    let before = left!(db, r, a);
    assert!(matches!(gone(x.clone()).await, Err(Error::Database(_))));
    assert_eq!(left!(db, r, a), before);
    nothing.delete_related(db).await.unwrap();
    assert_eq!(counts(&gone(x).await.unwrap()), expected!["r": 1]);
}

/// Diamonds, circles, tables that refer to themselves, inheritance, many to many.
async fn shapes(backend: Backend) {
    let (_kept, db) = made(backend).await;
    let db = &db;

    // test_restrict_path_cascade_indirect_diamond; and a leaf that is reached twice goes once.
    let top = insert!(db, top {});
    let (l, rr) = (insert!(db, left { top_id: top.id }), insert!(db, right { top_id: top.id }));
    insert!(db, bottom { left_id: l.id, right_id: rr.id });
    for _ in 0..3 {
        insert!(db, leaf { left_id: l.id, right_id: rr.id });
    }
    assert!(matches!(l.delete_related(db).await, Err(Error::Restricted(_))));
    assert_eq!(left!(db, left, leaf), [1, 3]);
    assert_eq!(counts(&top.delete_related(db).await.unwrap()), expected!["bottom": 1, "leaf": 3, "left": 1, "right": 1, "top": 1]);

    // Two tables in a circle, whose references are rows of each other.
    let hen = insert!(db, hen { egg_id: None });
    let egg = insert!(db, egg { hen_id: Some(hen.id) });
    hen::ActiveModel { id: Set(hen.id), egg_id: Set(Some(egg.id)) }.update(db).await.unwrap();
    insert!(db, hen { egg_id: None });
    assert_eq!(counts(&hen.delete_related(db).await.unwrap()), expected!["egg": 1, "hen": 1]);
    assert_eq!(left!(db, hen, egg), [1, 0]);

    // A tree of four generations beside another; and a row that is its own parent.
    let root = insert!(db, tree { parent_id: None });
    let mut generation = vec![root.id];
    for _ in 0..3 {
        let mut next = Vec::new();
        for parent in generation {
            for _ in 0..3 {
                next.push(insert!(db, tree { parent_id: Some(parent) }).id);
            }
        }
        generation = next;
    }
    let other = insert!(db, tree { parent_id: None });
    let own = insert!(db, tree { parent_id: None });
    tree::ActiveModel { id: Set(own.id), parent_id: Set(Some(own.id)) }.update(db).await.unwrap();
    assert_eq!(root.delete_related(db).await.unwrap().total(), 40);
    assert_eq!(own.delete_related(db).await.unwrap().total(), 1);
    assert_eq!(tree::Entity::find().all(db).await.unwrap(), [other]);
    // The same with SET_NULL.
    let first = insert!(db, reply { to_id: None });
    let second = insert!(db, reply { to_id: Some(first.id) });
    assert_eq!(counts(&first.delete_related(db).await.unwrap()), expected!["reply": 1]);
    assert_eq!(reply::Entity::find_by_id(second.id).one(db).await.unwrap().unwrap().to_id, None);

    // Inheritance (test_inheritance_cascade_up, .._down): the bar is a place, and each goes with the other; with both what refers to either.
    for from_child in [true, false] {
        let place = insert!(db, place {});
        let bar = insert!(db, bar { place_id: place.id });
        insert!(db, visit { place_id: Some(place.id) });
        insert!(db, visit { bar_id: Some(bar.place_id) });
        let deleted = if from_child { bar.delete_related(db).await } else { place.delete_related(db).await };
        assert_eq!(counts(&deleted.unwrap()), expected!["bar": 1, "place": 1, "visit": 2]);
    }
    let plain = insert!(db, place {});
    assert_eq!(counts(&plain.delete_related(db).await.unwrap()), expected!["place": 1]);

    // Many to many (test_m2m): the rows between go, the other side stays; and what refers to a row between, by both columns.
    let (one, two) = (insert!(db, m {}), insert!(db, m {}));
    let (x, y) = (insert!(db, r { p_id: None }), insert!(db, r { p_id: None }));
    for (m, r) in [(one.id, x.id), (one.id, y.id), (two.id, x.id)] {
        insert!(db, m_r { m_id: m, r_id: r });
        insert!(db, note { m_id: m, r_id: r });
    }
    assert_eq!(counts(&one.delete_related(db).await.unwrap()), expected!["m": 1, "m_r": 2, "note": 2]);
    assert_eq!(counts(&x.delete_related(db).await.unwrap()), expected!["m_r": 1, "note": 1, "r": 1]);
    assert_eq!(left!(db, m, m_r, note, r), [1, 0, 0, 1]);

    // A table that is known from the other end only; a reference to a column that is no key.
    let owner = insert!(db, owner {});
    insert!(db, unknown { owner_id: owner.id });
    insert!(db, unknown { owner_id: owner.id + 1 });
    assert_eq!(counts(&owner.delete_related(db).await.unwrap()), expected!["owner": 1, "unknown": 1]);
    let coded = insert!(db, coded { code: "x'y".to_owned() });
    insert!(db, by_code { code: "x'y".to_owned() });
    assert_eq!(counts(&coded.delete_related(db).await.unwrap()), expected!["by_code": 1, "coded": 1]);

    // A rule that cannot be.
    let firm = insert!(db, firm {});
    insert!(db, firm_part { firm_id: firm.id });
    let refused = firm.delete_related(db).await.unwrap_err();
    assert!(refused.to_string().contains("del_firm_part (firm_id) says SetNull, and its column cannot be NULL"), "{refused}");
    assert_eq!(left!(db, firm), [1]);
}

static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn hear(what: String) -> Result<(), rowbound_orm::BoxError> {
    HEARD.lock().unwrap().push(what);
    Ok(())
}

macro_rules! listen {
    ($($module:ident),*) => { $(
        PreDelete::connect::<$module::Entity>(|row, _| Box::pin(async move { hear(format!("pre {} {}", stringify!($module), row.id)) }));
        PostDelete::connect::<$module::Entity>(|row, _| Box::pin(async move { hear(format!("post {} {}", stringify!($module), row.id)) }));
    )* };
}

fn heard() -> Vec<String> {
    std::mem::take(&mut *HEARD.lock().unwrap())
}

/// Every row sends its signals once, in order; in circles too, where the database takes rows before we do.
async fn signals(backend: Backend) {
    let (_kept, db) = made(backend).await;
    let db = &db;
    listen!(top, left, right, leaf, hen, egg, tree);
    // test_relational_post_delete_signals_happen_before_parent_object
    let top = insert!(db, top {});
    let (l, rr) = (insert!(db, left { top_id: top.id }), insert!(db, right { top_id: top.id }));
    insert!(db, leaf { left_id: l.id, right_id: rr.id });
    top.delete_related(db).await.unwrap();
    let all = heard();
    assert_eq!(all.len(), 8, "{all:?}");
    let at = |what: &str| all.iter().position(|h| h == what).unwrap_or_else(|| panic!("{what} in {all:?}"));
    assert_eq!(at("pre top 1"), 0, "the query's rows first: {all:?}");
    for [first, then] in [
        ["pre leaf 1", "post leaf 1"],
        ["post leaf 1", "post left 1"],
        ["post leaf 1", "post right 1"],
        ["post left 1", "post top 1"],
        ["post right 1", "post top 1"],
        ["pre leaf 1", "post top 1"],
    ] {
        assert!(at(first) < at(then), "{first} before {then}: {all:?}");
    }
    // Rows of a circle, and of a tree, whose references the database carries out itself.
    let hen = insert!(db, hen { egg_id: None });
    let egg = insert!(db, egg { hen_id: Some(hen.id) });
    hen::ActiveModel { id: Set(hen.id), egg_id: Set(Some(egg.id)) }.update(db).await.unwrap();
    hen.delete_related(db).await.unwrap();
    let mut all = heard();
    all.sort();
    assert_eq!(all, ["post egg 1", "post hen 1", "pre egg 1", "pre hen 1"]);
    let root = insert!(db, tree { parent_id: None });
    let child = insert!(db, tree { parent_id: Some(root.id) });
    tree::ActiveModel { id: Set(root.id), parent_id: Set(Some(child.id)) }.update(db).await.unwrap();
    root.delete_related(db).await.unwrap();
    let mut all = heard();
    all.sort();
    assert_eq!(all, ["post tree 1", "post tree 2", "pre tree 1", "pre tree 2"]);

    // A receiver's refusal: nothing is deleted, whoever went before it. It may write, and what it wrote goes with the rest.
    let refusal = PostDelete::connect::<top::Entity>(|row, _| Box::pin(async move { Err(format!("top {} is wanted", row.id).into()) }));
    let writes = PreDelete::connect::<left::Entity>(|_, db| {
        Box::pin(async move {
            firm::ActiveModel { ..Default::default() }.insert(db).await?;
            Ok(())
        })
    });
    let top = insert!(db, top {});
    insert!(db, left { top_id: top.id });
    let e = top.delete_related(db).await.unwrap_err();
    assert!(e.to_string().contains("refused PostDelete of del_top: top 2 is wanted"), "{e}");
    assert_eq!(left!(db, top, left, firm), [1, 1, 0]);
    assert!(refusal.disconnect());
    assert_eq!(top::Entity::find().delete(db).await.unwrap().total(), 2);
    assert_eq!(left!(db, top, left, firm), [0, 0, 1]);
    assert!(writes.disconnect());
    heard();

    // What the query finds when it begins goes, although the first row that goes changes what it would find (a slice, a join).
    for _ in 0..10 {
        insert!(db, top {});
    }
    use sea_orm::QuerySelect;
    let five = top::Entity::find().order_by_desc(top::Column::Id).limit(5);
    assert_eq!(five.delete(db).await.unwrap().total(), 5);
    let rest: Vec<i32> = top::Entity::find().all(db).await.unwrap().iter().map(|row| row.id).collect();
    assert_eq!(rest.len(), 5);
    assert_eq!(heard().len(), 10);
    let transaction = db.begin().await.unwrap();
    for id in &rest {
        insert!(&transaction, left { top_id: *id });
    }
    let having = top::Entity::find().inner_join_left();
    assert_eq!(counts(&having.delete(&transaction).await.unwrap()), expected!["left": 5, "top": 5]);
    transaction.rollback().await.unwrap();
    assert_eq!(left!(db, top, left), [5, 0], "within the caller's transaction");
}

trait Joined {
    fn inner_join_left(self) -> Self;
}

impl Joined for sea_orm::Select<top::Entity> {
    fn inner_join_left(self) -> Self {
        use sea_orm::{QuerySelect, RelationTrait};
        self.join(sea_orm::JoinType::InnerJoin, left::Relation::Top.def().rev())
    }
}

/// More rows than a page has (test_large_delete, test_large_delete_related), with listeners and without.
async fn many(backend: Backend) {
    let (_kept, db) = made(backend).await;
    let db = &db;
    for listening in [false, true] {
        if listening {
            listen!(top, left);
        }
        let digit = "(select 0 d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 \
                     union all select 6 union all select 7 union all select 8 union all select 9)";
        let digits = ["a", "b", "c", "d", "e"].map(|name| format!("{digit} as {name}")).join(" cross join ");
        let number = "1 + a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d";
        for sql in [
            format!("insert into del_top (id) select {number} from {digits} where e.d < 2"),
            "insert into del_left (top_id) select id from del_top".to_owned(),
        ] {
            db.execute_unprepared(&sql).await.unwrap();
        }
        assert_eq!(counts(&top::Entity::find().delete(db).await.unwrap()), expected!["left": 20_000, "top": 20_000]);
        assert_eq!(heard().len(), if listening { 80_000 } else { 0 });
        assert_eq!(left!(db, top, left), [0, 0]);
    }
}

/// Nobody refers to a note and nobody listens: its rows go in one statement, and exactly those that the query finds, whatever its shape.
async fn one_statement(backend: Backend) {
    use sea_orm::{ColumnTrait, Condition, ExprTrait, QuerySelect, QueryTrait, RelationTrait, sea_query::Expr};
    let (_kept, db) = made(backend).await;
    let db = &db;
    for m in 1..=3 {
        insert!(db, m {});
        insert!(db, r { p_id: None });
        for r in 1..=m {
            insert!(db, m_r { m_id: m, r_id: r });
        }
    }
    let all = note::Entity::find;
    let some = note::Column::MId.eq(2).and(note::Column::RId.eq(1));
    let of_others = || note::Entity::find().select_only().column(note::Column::MId).filter(note::Column::RId.eq(3)).into_query();
    let shapes = [
        ("all", all(), 6),
        ("a filter", all().filter(note::Column::MId.eq(2)), 2),
        ("two filters", all().filter(note::Column::MId.gt(1)).filter(note::Column::RId.lt(3)), 4),
        ("either", all().filter(Condition::any().add(some).add(note::Column::MId.eq(1))), 2),
        ("not", all().filter(Condition::any().not().add(note::Column::MId.eq(1)).add(note::Column::RId.eq(1))), 3),
        ("nothing", all().filter(note::Column::MId.eq(9)), 0),
        ("an empty list", all().filter(note::Column::MId.is_in(Vec::<i32>::new())), 0),
        ("a condition of its own", all().filter(Expr::cust("m_id = r_id")), 3),
        ("an order", all().filter(note::Column::MId.gt(1)).order_by_asc(note::Column::RId), 5),
        ("a slice", all().filter(note::Column::MId.gt(1)).order_by_asc(note::Column::Id).limit(2).offset(1), 2),
        ("a limit", all().order_by_desc(note::Column::Id).limit(4), 4),
        ("distinct", all().distinct().filter(note::Column::MId.gt(2)), 3),
        ("a group", all().filter(note::Column::MId.gt(2)).group_by(note::Column::Id).having(note::Column::Id.max().gt(5)), 1),
        ("a join", all().join(sea_orm::JoinType::InnerJoin, note::Relation::Pair.def()).filter(m_r::Column::RId.eq(2)), 2),
        ("a subquery of itself", all().filter(note::Column::MId.in_subquery(of_others())), 3),
    ];
    for (shape, query, expected) in shapes {
        note::Entity::delete_many().exec(db).await.unwrap();
        for pair in m_r::Entity::find().all(db).await.unwrap() {
            let id = Set(pair.m_id * (pair.m_id - 1) / 2 + pair.r_id);
            note::ActiveModel { id, m_id: Set(pair.m_id), r_id: Set(pair.r_id) }.insert(db).await.unwrap();
        }
        let ids = async |query: sea_orm::Select<note::Entity>| -> Vec<i32> {
            let mut ids: Vec<i32> = query.select_only().column(note::Column::Id).into_tuple().all(db).await.expect(shape);
            ids.sort_unstable();
            ids
        };
        let (before, found) = (ids(all()).await, ids(query.clone()).await);
        assert_eq!((before.len(), found.len() as u64), (6, expected), "{shape}");
        assert_eq!(query.delete(db).await.expect(shape).of::<note::Entity>(), expected, "{shape}");
        let left: Vec<i32> = before.into_iter().filter(|id| !found.contains(id)).collect();
        assert_eq!(ids(all()).await, left, "{shape}");
    }
}

macro_rules! on {
    ($($module:ident $backend:ident),*) => { $(
        mod $module {
            use super::*;

            macro_rules! one {
                ($name:ident $work:ident) => {
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $name() {
                        $work(Backend::$backend).await;
                    }
                };
            }

            one!(each_rule_does_what_djangos_does each_rule);
            one!(diamonds_circles_trees_inheritance_and_many_to_many shapes);
            one!(every_row_sends_its_signals_once_and_in_order signals);
            one!(more_rows_than_a_page many);
            one!(a_query_of_any_shape_deletes_what_it_finds one_statement);
        }
    )* };
}

on!(sqlite Sqlite, postgres Postgres, mariadb Mariadb, mysql Mysql);
