//! What happens to rows, and what capture sees of it: one table, from which tests and `docs/events.md` are made.

use std::fmt::Write as _;

use rowbound::{Binding, Kind, database::Dialect};

use super::{Fixture, number, ok, refused};
use crate::db::Backend;

/// A statement in each SQL.
#[derive(Debug, Clone, Copy)]
pub struct Sql {
    sqlite: &'static str,
    postgres: &'static str,
    mysql: &'static str,
}

/// The same in every SQL.
pub const fn all(sql: &'static str) -> Sql {
    Sql { sqlite: sql, postgres: sql, mysql: sql }
}

/// One for each; `""` where there is no such statement.
pub const fn each(sqlite: &'static str, postgres: &'static str, mysql: &'static str) -> Sql {
    Sql { sqlite, postgres, mysql }
}

impl Sql {
    /// The text for a dialect.
    pub fn get(self, dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Sqlite => self.sqlite,
            Dialect::Postgres => self.postgres,
            Dialect::Mysql => self.mysql,
        }
    }
}

/// What becomes of an event on a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every name released becomes a candidate, in the same transaction.
    Captured,
    /// No trigger sees it; `inspect` lists it under an event that holds this word, and the sweep finds the files.
    Blind(&'static str),
    /// It happened while capture was not whole; the snapshot says so, and the gap is swept.
    Drift,
    /// The database has no such statement.
    Absent,
}

/// One event.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// The test's name.
    pub name: &'static str,
    /// As `docs/events.md` says it.
    pub title: &'static str,
    /// The columns bound.
    pub bind: &'static [&'static str],
    /// Tables and rows before `attach`.
    pub schema: Sql,
    /// What the application does after it.
    pub act: Sql,
    /// The names that it releases.
    pub released: &'static [&'static str],
    /// Names that may come too: a candidate is a hint, and the check for references clears it.
    pub may: &'static [&'static str],
    verdicts: [Verdict; 3],
    /// Names that may come twice on MySQL: it deletes the parent first, and the child's row afterwards.
    twice_on_mysql: &'static [&'static str],
    /// Whether MySQL, which MariaDB is not, refuses to attach: its own rules would make the application's statement fail.
    refused_by_mysql: bool,
}

const DOCS: Sql = all("create table doc (id integer primary key, file varchar(255), title varchar(50));
    insert into doc values (1, 'a.jpg', 'x'), (2, 'b.jpg', 'x'), (3, 'c.jpg', 'x')");

const UNIQUE: Sql = all("create table doc (id integer primary key, slug varchar(50) unique, file varchar(255));
    insert into doc values (1, 'one', 'a.jpg'), (2, 'two', 'b.jpg'), (3, 'three', 'c.jpg')");

const CHAIN: Sql = all("create table a (id integer primary key, file varchar(255));
    create table b (id integer primary key, a_id integer, file varchar(255), foreign key (a_id) references a (id) on delete cascade);
    create table c (id integer primary key, b_id integer, file varchar(255), foreign key (b_id) references b (id) on delete cascade);
    insert into a values (1, 'a1.jpg'), (2, 'a2.jpg');
    insert into b values (1, 1, 'b1.jpg'), (2, 2, 'b2.jpg');
    insert into c values (1, 1, 'c1.jpg'), (2, 1, 'c2.jpg'), (3, 2, 'c3.jpg')");

const TREE: Sql = all(
    "create table node (id integer primary key, parent integer, file varchar(255), foreign key (parent) references node (id) on delete cascade);
    insert into node values (1, null, 'root.jpg');
    insert into node values (2, 1, 'child.jpg');
    insert into node values (3, 2, 'grandchild.jpg');
    insert into node values (4, null, 'other.jpg')",
);

const PARTITIONS: Sql = each(
    "",
    "create table doc (id integer, region integer, file varchar(255), primary key (id, region)) partition by list (region);
     create table doc1 partition of doc for values in (1);
     create table doc2 partition of doc for values in (2);
     insert into doc values (1, 1, 'a.jpg'), (2, 2, 'b.jpg')",
    "create table doc (id integer, region integer, file varchar(255), primary key (id, region))
       partition by list (region) (partition p1 values in (1), partition p2 values in (2));
     insert into doc values (1, 1, 'a.jpg'), (2, 2, 'b.jpg')",
);

const INHERITS: Sql = each(
    "",
    "create table doc (id integer primary key, file varchar(255));
     create table scan () inherits (doc);
     insert into doc values (1, 'a.jpg');
     insert into scan values (2, 'b.jpg')",
    "",
);

const fn event(name: &'static str, title: &'static str, act: Sql, released: &'static [&'static str]) -> Event {
    Event {
        name,
        title,
        bind: &["doc.file"],
        schema: DOCS,
        act,
        released,
        may: &[],
        verdicts: [Verdict::Captured; 3],
        twice_on_mysql: &[],
        refused_by_mysql: false,
    }
}

impl Event {
    const fn on(mut self, schema: Sql) -> Self {
        self.schema = schema;
        self
    }

    const fn bind(mut self, columns: &'static [&'static str]) -> Self {
        self.bind = columns;
        self
    }

    const fn may(mut self, names: &'static [&'static str]) -> Self {
        self.may = names;
        self
    }

    const fn sqlite(mut self, verdict: Verdict) -> Self {
        self.verdicts[0] = verdict;
        self
    }

    const fn postgres(mut self, verdict: Verdict) -> Self {
        self.verdicts[1] = verdict;
        self
    }

    const fn mysql(mut self, verdict: Verdict) -> Self {
        self.verdicts[2] = verdict;
        self
    }

    const fn twice_on_mysql(mut self, names: &'static [&'static str]) -> Self {
        self.twice_on_mysql = names;
        self
    }

    const fn refused_by_mysql(mut self) -> Self {
        self.refused_by_mysql = true;
        self
    }

    /// What becomes of it on a database.
    pub fn verdict(&self, dialect: Dialect) -> Verdict {
        if self.act.get(dialect).is_empty() || self.schema.get(dialect).is_empty() {
            return Verdict::Absent;
        }
        match dialect {
            Dialect::Sqlite => self.verdicts[0],
            Dialect::Postgres => self.verdicts[1],
            Dialect::Mysql => self.verdicts[2],
        }
    }
}

use Verdict::{Blind, Drift};

/// Every event, in the order of `docs/events.md`.
pub const EVENTS: &[Event] = &[
    // Plain statements.
    event("insert_lets_go_of_nothing", "`INSERT`", all("insert into doc values (9, 'z.jpg', 'x')"), &[]),
    event("delete_one", "`DELETE` of one row", all("delete from doc where id = 1"), &["a.jpg"]),
    event("delete_bulk", "`DELETE` of many rows", all("delete from doc where id > 1"), &["b.jpg", "c.jpg"]),
    event("delete_without_where", "`DELETE` without `WHERE`", all("delete from doc"), &["a.jpg", "b.jpg", "c.jpg"]),
    event("update_file", "`UPDATE` of the file column", all("update doc set file = 'z.jpg' where id = 1"), &["a.jpg"]),
    event("update_many", "`UPDATE` of many rows to one name", all("update doc set file = 'z.jpg'"), &["a.jpg", "b.jpg", "c.jpg"]),
    // Active Storage: replaced with itself survives.
    event("update_file_to_itself", "`UPDATE` of the file column to its own value", all("update doc set file = file"), &[]),
    event("update_another_column", "`UPDATE` of another column", all("update doc set title = 'y'"), &[]),
    // django-cleanup: file to file, to `''`, to `NULL`, delete.
    event("update_to_null", "`UPDATE` to `NULL`", all("update doc set file = null where id = 1"), &["a.jpg"]),
    // django-cleanup: file to file, to `''`, to `NULL`, delete.
    event("update_to_empty", "`UPDATE` to `''`", all("update doc set file = '' where id = 1"), &["a.jpg"]),
    event("update_of_case_only", "`UPDATE` that changes only the case", all("update doc set file = 'A.jpg' where id = 1"), &["a.jpg"])
        .on(each(
            "create table doc (id integer primary key, file varchar(255) collate nocase); insert into doc values (1, 'a.jpg')",
            "create table doc (id integer primary key, file varchar(255)); insert into doc values (1, 'a.jpg')",
            "create table doc (id integer primary key, file varchar(255) collate utf8mb4_general_ci); insert into doc values (1, 'a.jpg')",
        )),
    event(
        "update_of_key_and_file",
        "`UPDATE` of the primary key together with the file",
        all("update doc set id = 10, file = 'z.jpg' where id = 1"),
        &["a.jpg"],
    ),
    event("update_of_the_key", "`UPDATE` of the primary key alone", all("update doc set id = 10 where id = 1"), &[]),
    event(
        "swap_of_two_rows",
        "two rows swap their files in one statement",
        all("update doc set file = case id when 1 then 'b.jpg' else 'a.jpg' end where id in (1, 2)"),
        &["a.jpg", "b.jpg"],
    ),
    event(
        "update_from",
        "`UPDATE .. FROM`, `UPDATE .. JOIN`",
        each(
            "update doc set file = 'z.jpg' from doc as d where d.id = doc.id and d.id = 1",
            "update doc set file = 'z.jpg' from doc as d where d.id = doc.id and d.id = 1",
            "update doc join doc as d on d.id = doc.id and d.id = 1 set doc.file = 'z.jpg'",
        ),
        &["a.jpg"],
    ),
    event(
        "delete_using",
        "`DELETE .. USING`, `DELETE .. JOIN`",
        each("", "delete from doc using doc d where d.id = doc.id and d.id = 1", "delete doc from doc join doc d on d.id = doc.id and d.id = 1"),
        &["a.jpg"],
    ),
    event(
        "delete_from_two_tables",
        "`DELETE` from two tables at once",
        each("", "", "delete doc, ext from doc join ext on ext.id = doc.id where doc.id = 1"),
        &["a.jpg", "e.jpg"],
    )
    .on(all("create table doc (id integer primary key, file varchar(255)); create table ext (id integer primary key, file varchar(255));
         insert into doc values (1, 'a.jpg'); insert into ext values (1, 'e.jpg')"))
    .bind(&["doc.file", "ext.file"]),
    event(
        "delete_from_parent_and_child",
        "`DELETE` from parent and child at once",
        each("", "", "delete a, b from a join b on b.a_id = a.id where a.id = 1"),
        &["a1.jpg", "b1.jpg", "c1.jpg", "c2.jpg"],
    )
    .on(CHAIN)
    .bind(&["a.file", "b.file", "c.file"])
    .twice_on_mysql(&["b1.jpg"]),
    event(
        "delete_in_a_cte",
        "`DELETE` within `WITH`",
        each("", "with gone as (delete from doc where id = 1 returning *) select count(*) from gone", ""),
        &["a.jpg"],
    ),
    event(
        "merge",
        "`MERGE`",
        each(
            "",
            "merge into doc using (values (1, 'z.jpg'), (2, null)) v (id, file) on v.id = doc.id
             when matched and v.file is null then delete when matched then update set file = v.file",
            "",
        ),
        &["a.jpg", "b.jpg"],
    ),
    // Transactions.
    // Shrine, CarrierWave, Laravel Media Library or unused-media: rollback of create, update and destroy.
    event("rollback", "a transaction that is rolled back", all("begin; delete from doc; rollback"), &[]),
    event(
        "savepoint",
        "a savepoint that is rolled back",
        all("begin; savepoint s; delete from doc where id = 1; rollback to savepoint s; delete from doc where id = 2; commit"),
        &["b.jpg"],
    ),
    event(
        "delete_and_insert_again",
        "a row deleted and inserted again in one transaction",
        all("begin; delete from doc where id = 1; insert into doc values (1, 'a.jpg', 'x'); commit"),
        &[],
    )
    .may(&["a.jpg"]),
    // Shrine, CarrierWave, Laravel Media Library or unused-media: several saves in one transaction remove each intermediate file.
    event(
        "there_and_back",
        "a file replaced twice in one transaction",
        all("begin; update doc set file = 'y.jpg' where id = 1; update doc set file = 'z.jpg' where id = 1; commit"),
        &["a.jpg", "y.jpg"],
    ),
    // Upserts and REPLACE.
    event(
        "upsert_that_updates",
        "`INSERT .. ON CONFLICT DO UPDATE`, `ON DUPLICATE KEY UPDATE`",
        each(
            "insert into doc values (1, 'z.jpg', 'x') on conflict (id) do update set file = excluded.file",
            "insert into doc values (1, 'z.jpg', 'x') on conflict (id) do update set file = excluded.file",
            "insert into doc values (1, 'z.jpg', 'x') on duplicate key update file = values(file)",
        ),
        &["a.jpg"],
    )
    .may(&["a.jpg"]),
    event(
        "upsert_that_does_nothing",
        "`ON CONFLICT DO NOTHING`, `INSERT IGNORE`",
        each(
            "insert into doc values (1, 'z.jpg', 'x') on conflict (id) do nothing",
            "insert into doc values (1, 'z.jpg', 'x') on conflict (id) do nothing",
            "insert ignore into doc values (1, 'z.jpg', 'x')",
        ),
        &[],
    )
    .may(&["a.jpg"]),
    event(
        "replace_by_primary_key",
        "`REPLACE` over the primary key",
        each("insert or replace into doc values (1, 'z.jpg', 'x')", "", "replace into doc values (1, 'z.jpg', 'x')"),
        &["a.jpg"],
    ),
    event(
        "replace_by_unique_key",
        "`REPLACE` over a unique key",
        each("insert or replace into doc values (9, 'one', 'z.jpg')", "", "replace into doc values (9, 'one', 'z.jpg')"),
        &["a.jpg"],
    )
    .on(UNIQUE),
    event(
        "replace_of_two_rows",
        "`REPLACE` that deletes two rows",
        each("insert or replace into doc values (2, 'one', 'z.jpg')", "", "replace into doc values (2, 'one', 'z.jpg')"),
        &["a.jpg", "b.jpg"],
    )
    .on(UNIQUE),
    event(
        "replace_by_two_columns",
        "`REPLACE` over a unique key of two columns",
        each("replace into doc values (9, 1, 2, 'z.jpg')", "", "replace into doc values (9, 1, 2, 'z.jpg')"),
        &["a.jpg"],
    )
    .on(all("create table doc (id integer primary key, x integer, y integer, file varchar(255), unique (x, y));
         insert into doc values (1, 1, 2, 'a.jpg'), (2, 1, 3, 'b.jpg'), (3, null, 2, 'c.jpg')")),
    event(
        "replace_by_a_key_that_folds_case",
        "`REPLACE` over a unique key that ignores case",
        each("replace into doc values (9, 'ONE', 'z.jpg')", "", "replace into doc values (9, 'ONE', 'z.jpg')"),
        &["a.jpg"],
    )
    .on(each(
        "create table doc (id integer primary key, slug varchar(50) collate nocase unique, file varchar(255)); insert into doc values (1, 'one', 'a.jpg')",
        "",
        "create table doc (id integer primary key, slug varchar(50) collate utf8mb4_general_ci unique, file varchar(255)); insert into doc values (1, 'one', 'a.jpg')",
    )),
    event(
        "replace_without_rowid",
        "`REPLACE` in a table `WITHOUT ROWID`",
        each("replace into doc values ('one', 'z.jpg')", "", ""),
        &["a.jpg"],
    )
    .on(each(
        "create table doc (slug varchar(50) primary key, file varchar(255)) without rowid; insert into doc values ('one', 'a.jpg')",
        "",
        "",
    )),
    event(
        "replace_by_a_unique_expression",
        "`REPLACE` over a unique index on an expression",
        each("replace into doc values (9, 'ONE', 'z.jpg')", "", ""),
        &["a.jpg"],
    )
    .on(each(
        "create table doc (id integer primary key, slug varchar(50), file varchar(255)); create unique index u on doc (lower(slug));
         insert into doc values (1, 'one', 'a.jpg')",
        "",
        "",
    ))
    .sqlite(Blind("REPLACE")),
    event(
        "replace_by_the_schema",
        "`UNIQUE ON CONFLICT REPLACE` and a plain `INSERT`",
        each("insert into doc values (9, 'one', 'z.jpg')", "", ""),
        &["a.jpg"],
    )
    .on(each(
        "create table doc (id integer primary key, slug varchar(50) unique on conflict replace, file varchar(255));
         insert into doc values (1, 'one', 'a.jpg')",
        "",
        "",
    )),
    event(
        "replace_with_the_same_file",
        "`REPLACE` of a row that keeps its file",
        each("replace into doc values (1, 'a.jpg', 'y')", "", "replace into doc values (1, 'a.jpg', 'y')"),
        &[],
    )
    .may(&["a.jpg"]),
    event(
        "update_or_replace_by_primary_key",
        "`UPDATE OR REPLACE` over the primary key",
        each("update or replace doc set id = 2 where id = 1", "", ""),
        &["b.jpg"],
    )
    .may(&["a.jpg"]),
    event(
        "update_or_replace_by_unique_key",
        "`UPDATE OR REPLACE` over a unique key",
        each("update or replace doc set slug = 'two' where id = 1", "", ""),
        &["b.jpg"],
    )
    .on(UNIQUE)
    .may(&["a.jpg"]),
    event(
        "replace_of_a_parent",
        "children of a row that `REPLACE` deletes",
        each("replace into a values (1, 'z.jpg')", "", "replace into a values (1, 'z.jpg')"),
        &["a1.jpg", "b1.jpg", "c1.jpg", "c2.jpg"],
    )
    .on(CHAIN)
    .bind(&["a.file", "b.file", "c.file"]),
    // Foreign keys.
    // django-cleanup: cascade.
    event("cascade_of_three_levels", "`ON DELETE CASCADE`, three levels", all("delete from a where id = 1"), &["a1.jpg", "b1.jpg", "c1.jpg", "c2.jpg"])
        .on(CHAIN)
        .bind(&["a.file", "b.file", "c.file"]),
    event("cascade_from_the_middle", "`ON DELETE CASCADE` from a middle level", all("delete from b where id = 1"), &["b1.jpg", "c1.jpg", "c2.jpg"])
        .on(CHAIN)
        .bind(&["a.file", "b.file", "c.file"]),
    event("cascade_from_unbound_tables", "`ON DELETE CASCADE` from tables that are not bound", all("delete from a"), &["c1.jpg", "c2.jpg", "c3.jpg"])
        .on(CHAIN)
        .bind(&["c.file"]),
    event(
        "cascade_within_a_table",
        "`ON DELETE CASCADE` within one table",
        all("delete from node where id = 1"),
        &["child.jpg", "grandchild.jpg", "root.jpg"],
    )
    .on(TREE)
    .bind(&["node.file"]),
    event(
        "cascade_by_two_paths",
        "`ON DELETE CASCADE` by two paths",
        all("delete from top where id = 1"),
        &["leaf.jpg"],
    )
    .on(all("create table top (id integer primary key);
         create table l (id integer primary key, top_id integer, foreign key (top_id) references top (id) on delete cascade);
         create table r (id integer primary key, top_id integer, foreign key (top_id) references top (id) on delete cascade);
         create table leaf (id integer primary key, l_id integer, r_id integer, file varchar(255),
           foreign key (l_id) references l (id) on delete cascade, foreign key (r_id) references r (id) on delete cascade);
         insert into top values (1), (2); insert into l values (1, 1), (2, 2); insert into r values (1, 1), (2, 2);
         insert into leaf values (1, 1, 1, 'leaf.jpg'), (2, 2, 2, 'other.jpg')"))
    .bind(&["leaf.file"])
    .may(&["leaf.jpg"]),
    event("set_null_of_the_file_column", "`ON DELETE SET NULL` of a file column", all("delete from files where name = 'a.jpg'"), &["a.jpg"])
        .on(all("create table files (name varchar(255) primary key);
             create table doc (id integer primary key, file varchar(255), foreign key (file) references files (name) on delete set null);
             insert into files values ('a.jpg'), ('b.jpg'); insert into doc values (1, 'a.jpg'), (2, 'b.jpg')")),
    event(
        "set_default_of_the_file_column",
        "`ON DELETE SET DEFAULT` of a file column",
        each("delete from files where name = 'a.jpg'", "delete from files where name = 'a.jpg'", ""),
        &["a.jpg"],
    )
    .on(all("create table files (name varchar(255) primary key);
         create table doc (id integer primary key, file varchar(255) default 'b.jpg', foreign key (file) references files (name) on delete set default);
         insert into files values ('a.jpg'), ('b.jpg'); insert into doc values (1, 'a.jpg'), (2, 'b.jpg')")),
    event(
        "update_cascade_into_the_file_column",
        "`ON UPDATE CASCADE` into a file column",
        all("update files set name = 'z.jpg' where name = 'a.jpg'"),
        &["a.jpg"],
    )
    .on(all("create table files (name varchar(255) primary key, title varchar(50));
         create table doc (id integer primary key, file varchar(255), foreign key (file) references files (name) on update cascade);
         insert into files values ('a.jpg', 'x'), ('b.jpg', 'x'); insert into doc values (1, 'a.jpg'), (2, 'b.jpg')")),
    event(
        "update_of_a_parent_that_cascades_nothing",
        "`UPDATE` of a parent's other column",
        all("update files set title = 'y'"),
        &[],
    )
    .on(all("create table files (name varchar(255) primary key, title varchar(50));
         create table doc (id integer primary key, file varchar(255), foreign key (file) references files (name) on update cascade on delete cascade);
         insert into files values ('a.jpg', 'x'), ('b.jpg', 'x'); insert into doc values (1, 'a.jpg'), (2, 'b.jpg')")),
    event(
        "delete_of_a_multi_table_row",
        "a row whose columns lie in two tables (multi-table inheritance)",
        all("delete from photo where id = 1; delete from media where id = 1"),
        &["m.jpg", "p.jpg"],
    )
    .on(all("create table media (id integer primary key, file varchar(255));
         create table photo (id integer primary key, raw varchar(255), foreign key (id) references media (id));
         insert into media values (1, 'm.jpg'); insert into photo values (1, 'p.jpg')"))
    .bind(&["media.file", "photo.raw"]),
    // Triggers, views and rules of the application's own.
    event(
        "change_by_an_application_trigger",
        "an application's trigger changes the file",
        all("update doc set title = 'y' where id = 1"),
        &["a.jpg"],
    )
    .on(each(
        "create table doc (id integer primary key, file varchar(255), title varchar(50)); insert into doc values (1, 'a.jpg', 'x'), (2, 'b.jpg', 'x');
         create trigger app after update of title on doc begin update doc set file = 'y.jpg' where id = new.id; end",
        "create table doc (id integer primary key, file varchar(255), title varchar(50)); insert into doc values (1, 'a.jpg', 'x'), (2, 'b.jpg', 'x');
         create function app() returns trigger language plpgsql as $$ begin new.file := 'y.jpg'; return new; end $$;
         create trigger app before update of title on doc for each row execute function app()",
        "create table doc (id integer primary key, file varchar(255), title varchar(50)); insert into doc values (1, 'a.jpg', 'x'), (2, 'b.jpg', 'x');
         create trigger app before update on doc for each row set new.file = 'y.jpg'",
    )),
    event("delete_by_an_application_trigger", "an application's trigger deletes rows", all("delete from owner where id = 1"), &["a.jpg"]).on(each(
        "create table owner (id integer primary key); create table doc (id integer primary key, file varchar(255));
         insert into owner values (1); insert into doc values (1, 'a.jpg'), (2, 'b.jpg');
         create trigger app after delete on owner begin delete from doc where id = old.id; end",
        "create table owner (id integer primary key); create table doc (id integer primary key, file varchar(255));
         insert into owner values (1); insert into doc values (1, 'a.jpg'), (2, 'b.jpg');
         create function app() returns trigger language plpgsql as $$ begin delete from doc where id = old.id; return old; end $$;
         create trigger app after delete on owner for each row execute function app()",
        "create table owner (id integer primary key); create table doc (id integer primary key, file varchar(255));
         insert into owner values (1); insert into doc values (1, 'a.jpg'), (2, 'b.jpg');
         create trigger app after delete on owner for each row delete from doc where id = old.id",
    )),
    event("delete_through_a_view", "an updatable view", each("", "delete from docs where id = 1", "delete from docs where id = 1"), &["a.jpg"])
        .on(all("create table doc (id integer primary key, file varchar(255)); insert into doc values (1, 'a.jpg'), (2, 'b.jpg');
             create view docs as select id, file from doc where id < 10")),
    event(
        "delete_by_an_instead_of_trigger",
        "an `INSTEAD OF` trigger",
        each("delete from docs where id = 1", "delete from docs where id = 1", ""),
        &["a.jpg"],
    )
    .on(each(
        "create table doc (id integer primary key, file varchar(255)); insert into doc values (1, 'a.jpg'), (2, 'b.jpg');
         create view docs as select id, count(*) n from doc group by id;
         create trigger app instead of delete on docs begin delete from doc where id = old.id; end",
        "create table doc (id integer primary key, file varchar(255)); insert into doc values (1, 'a.jpg'), (2, 'b.jpg');
         create view docs as select id, count(*) n from doc group by id;
         create function app() returns trigger language plpgsql as $$ begin delete from doc where id = old.id; return old; end $$;
         create trigger app instead of delete on docs for each row execute function app()",
        "",
    )),
    event("update_by_a_rule", "a rule", each("", "delete from doc where id = 1", ""), &["a.jpg"]).on(each(
        "",
        "create table doc (id integer primary key, file varchar(255), title varchar(50)); insert into doc values (1, 'a.jpg', 'x'), (2, 'b.jpg', 'x');
         create rule soft as on delete to doc do instead update doc set file = null where id = old.id",
        "",
    )),
    event("generated_stored_column", "a stored generated column", all("update doc set base = 'z' where id = 1"), &["x/a.jpg"]).on(each(
        "create table doc (id integer primary key, base varchar(50), file varchar(255) generated always as ('x/' || base || '.jpg') stored);
         insert into doc (id, base) values (1, 'a'), (2, 'b')",
        "create table doc (id integer primary key, base varchar(50), file varchar(255) generated always as ('x/' || base || '.jpg') stored);
         insert into doc (id, base) values (1, 'a'), (2, 'b')",
        "create table doc (id integer primary key, base varchar(50), file varchar(255) generated always as (concat('x/', base, '.jpg')) stored);
         insert into doc (id, base) values (1, 'a'), (2, 'b')",
    )),
    event(
        "generated_virtual_column",
        "a virtual generated column",
        each("update doc set base = 'z' where id = 1; delete from doc where id = 2", "", "update doc set base = 'z' where id = 1; delete from doc where id = 2"),
        &["x/a.jpg", "x/b.jpg"],
    )
    .on(each(
        "create table doc (id integer primary key, base varchar(50), file varchar(255) generated always as ('x/' || base || '.jpg') virtual);
         insert into doc (id, base) values (1, 'a'), (2, 'b')",
        "",
        "create table doc (id integer primary key, base varchar(50), file varchar(255) generated always as (concat('x/', base, '.jpg')) virtual);
         insert into doc (id, base) values (1, 'a'), (2, 'b')",
    )),
    event("fixed_width_column", "a `CHAR(n)` column", all("delete from doc where id = 1"), &["a.jpg"])
        .on(all("create table doc (id integer primary key, file char(20)); insert into doc values (1, 'a.jpg')")),
    // Whole tables, partitions, inheritance.
    event("truncate", "`TRUNCATE`", each("", "truncate doc", "truncate doc"), &["a.jpg", "b.jpg", "c.jpg"]).mysql(Blind("TRUNCATE")),
    event(
        "truncate_rolled_back",
        "`TRUNCATE` that is rolled back",
        each("", "begin; truncate doc; rollback", ""),
        &[],
    ),
    event(
        "truncate_cascade",
        "`TRUNCATE .. CASCADE`",
        each("", "truncate a cascade", ""),
        &["a1.jpg", "a2.jpg", "b1.jpg", "b2.jpg", "c1.jpg", "c2.jpg", "c3.jpg"],
    )
    .on(CHAIN)
    .bind(&["a.file", "b.file", "c.file"]),
    event("drop_table", "`DROP TABLE`", all("drop table doc"), &["a.jpg", "b.jpg", "c.jpg"])
        .sqlite(Blind("DROP"))
        .postgres(Blind("DROP"))
        .mysql(Blind("DROP")),
    event(
        "drop_of_a_parent",
        "children of a dropped table (an implicit `DELETE`)",
        each("drop table a", "", ""),
        &["b1.jpg", "b2.jpg", "c1.jpg", "c2.jpg", "c3.jpg"],
    )
    .on(CHAIN)
    .bind(&["b.file", "c.file"]),
    event("partition_delete", "a partitioned table", each("", "delete from doc", "delete from doc"), &["a.jpg", "b.jpg"]).on(PARTITIONS),
    event("partition_delete_on_the_leaf", "`DELETE` on a partition itself", each("", "delete from doc2", ""), &["b.jpg"]).on(PARTITIONS),
    event(
        "partition_later",
        "a partition made after `attach`",
        each(
            "",
            "create table doc3 partition of doc for values in (3); insert into doc values (3, 3, 'c.jpg'); delete from doc where id = 3",
            "alter table doc add partition (partition p3 values in (3)); insert into doc values (3, 3, 'c.jpg'); delete from doc where id = 3",
        ),
        &["c.jpg"],
    )
    .on(PARTITIONS),
    event(
        "partition_attached",
        "a table attached as a partition after `attach`",
        each(
            "",
            "create table doc3 (like doc including all); insert into doc3 values (3, 3, 'c.jpg');
             alter table doc attach partition doc3 for values in (3); delete from doc3",
            "",
        ),
        &["c.jpg"],
    )
    .on(PARTITIONS),
    event("partition_move", "a row that moves to another partition", each("", "update doc set region = 2 where id = 1", "update doc set region = 2 where id = 1"), &[])
        .on(PARTITIONS)
        .may(&["a.jpg"]),
    event(
        "partition_truncated",
        "`TRUNCATE` of one partition",
        each("", "truncate doc2", "alter table doc truncate partition p2"),
        &["b.jpg"],
    )
    .on(PARTITIONS)
    .mysql(Blind("TRUNCATE")),
    event(
        "partition_truncated_later",
        "`TRUNCATE` of a partition made after `attach`, before it is repaired",
        each("", "create table doc3 partition of doc for values in (3); insert into doc values (3, 3, 'c.jpg'); truncate doc3", ""),
        &["c.jpg"],
    )
    .on(PARTITIONS)
    .postgres(Drift),
    event(
        "partition_dropped",
        "a dropped partition",
        each("", "drop table doc2", "alter table doc drop partition p2"),
        &["b.jpg"],
    )
    .on(PARTITIONS)
    .postgres(Blind("DROP"))
    .mysql(Blind("DROP")),
    event("inherited_delete_by_the_parent", "`DELETE` from a table with `INHERITS` children", each("", "delete from doc", ""), &["a.jpg", "b.jpg"]).on(INHERITS),
    event("inherited_delete_on_the_child", "`DELETE` from an `INHERITS` child", each("", "delete from scan", ""), &["b.jpg"]).on(INHERITS),
    event("inherited_truncate", "`TRUNCATE` of a table with `INHERITS` children", each("", "truncate doc", ""), &["a.jpg", "b.jpg"]).on(INHERITS),
    event(
        "inherited_later",
        "an `INHERITS` child made after `attach`, before it is repaired",
        each("", "create table page () inherits (doc); insert into page values (3, 'c.jpg'); delete from page", ""),
        &["c.jpg"],
    )
    .on(INHERITS)
    .postgres(Drift),
    // Sessions and engines with a will of their own.
    event(
        "replica_role",
        "`session_replication_role = replica`",
        each("", "set session_replication_role = replica; delete from doc where id = 1; set session_replication_role = default", ""),
        &["a.jpg"],
    ),
    event(
        "triggers_disabled",
        "`DISABLE TRIGGER ALL` and back",
        each("", "alter table doc disable trigger all; delete from doc where id = 1; alter table doc enable trigger all", ""),
        &["a.jpg"],
    )
    .postgres(Drift),
    event(
        "recursive_triggers",
        "`REPLACE` under `PRAGMA recursive_triggers = ON`",
        each("pragma recursive_triggers = on; replace into doc values (1, 'z.jpg', 'x'); pragma recursive_triggers = off", "", ""),
        &["a.jpg"],
    )
    .may(&["a.jpg"]),
    event("myisam_delete", "a table without transactions (MyISAM)", each("", "", "delete from doc where id = 1"), &["a.jpg"])
        .on(each(
            "",
            "",
            "create table doc (id integer primary key, file varchar(255)) engine = MyISAM; insert into doc values (1, 'a.jpg'), (2, 'b.jpg')",
        ))
        .refused_by_mysql(),
    event(
        "myisam_rollback",
        "a rolled back `DELETE` from a table without transactions: the row is gone all the same",
        each("", "", "begin; delete from doc where id = 1; rollback"),
        &["a.jpg"],
    )
    .on(each(
        "",
        "",
        "create table doc (id integer primary key, file varchar(255)) engine = MyISAM; insert into doc values (1, 'a.jpg'), (2, 'b.jpg')",
    ))
    .mysql(Blind("ROLLBACK"))
    .refused_by_mysql(),
];

/// Runs one event on a database and compares with the table.
///
/// # Panics
/// When capture saw less, or more, than the table says.
pub async fn run(event: &Event, f: &Fixture) {
    let dialect = f.db.dialect();
    let verdict = event.verdict(dialect);
    if verdict == Verdict::Absent {
        return;
    }
    f.db.exec(event.schema.get(dialect)).await;
    if event.refused_by_mysql && f.db.backend() == Backend::Mysql {
        let bound = number(event.bind.iter().map(|c| ok(Binding::name(c, "default"))).collect());
        let error = refused(f.open().await.inspect(&bound).await, "the application's statement would fail");
        assert_eq!(error.kind(), Kind::Schema, "{}", error.full());
        return;
    }
    let attached = f.attach(event.bind).await;
    let blind = ok(attached.database.inspect(&attached.bound).await).blind;
    assert!(attached.values().await.is_empty(), "attach lets go of nothing");

    f.db.exec(event.act.get(dialect)).await;

    let values = attached.values().await;
    match verdict {
        Verdict::Captured => {
            // As multisets but for what may come besides.
            let mut extra = values.clone();
            for name in event.released {
                let at = extra.iter().position(|v| v == name);
                extra.swap_remove(at.unwrap_or_else(|| panic!("{name} was let go of and not captured; captured were {values:?}")));
            }
            extra.retain(|v| !event.may.contains(&v.as_str()));
            if f.db.backend() == Backend::Mysql {
                for name in event.twice_on_mysql {
                    extra.iter().position(|v| v == name).map(|at| extra.swap_remove(at));
                }
            }
            assert!(extra.is_empty(), "nobody let go of {extra:?}");
        }
        Verdict::Blind(word) => {
            assert!(values.is_empty(), "captured after all: {values:?}; the table of events says blind");
            let listed = blind.iter().any(|b| b.event.to_uppercase().contains(&word.to_uppercase()));
            assert!(listed, "`inspect` does not list {word} as blind; it lists {:?}", blind.iter().map(|b| &b.event).collect::<Vec<_>>());
        }
        Verdict::Drift => {
            assert!(values.is_empty(), "captured after all: {values:?}; the table of events says drift");
            let drift = attached.record.snapshot.drift(&attached.snapshot().await);
            assert!(!drift.is_empty(), "capture was not whole, and the snapshot does not say so");
        }
        Verdict::Absent => unreachable!("returned above"),
    }
}

/// The table as `docs/events.md`.
pub fn document() -> String {
    let mut text = String::from(
        "# What capture sees\n\n\
         Every line is a test that runs on every database (`crates/rowbound-testkit/src/database_suite/events.rs`); this file is\n\
         made from it by\n\
         `UPDATE_DOCS=1 scripts/with-test-servers cargo nextest run -p rowbound -E 'test(events_are_documented)'`.\n\n\
         - **yes**: every name that the event lets go of becomes a candidate, in the same transaction.\n\
         - **sweep**: no trigger sees it. `rowbound attach` lists it. The files stay: `rowbound sweep` finds them.\n\
         - **noticed**: capture was not whole at that moment. `rowbound run` notices before the next batch, deletes nothing until\n  \
           it has put capture back and records the gap.\n\
         - **–**: the database has no such thing, or it is the same as another line.\n\n\
         A candidate is a hint. Where an event gives one too many (a row moved between partitions), the check for references\n\
         clears it.\n\n\
         | what happens | SQLite | PostgreSQL | MySQL, MariaDB |\n| --- | --- | --- | --- |\n",
    );
    for event in EVENTS {
        let refused = |dialect| dialect == Dialect::Mysql && event.refused_by_mysql;
        let cell = |dialect| match event.verdict(dialect) {
            Verdict::Captured if event.released.is_empty() => "nothing let go of",
            Verdict::Captured if refused(dialect) => "yes; refused by `attach` on MySQL",
            Verdict::Blind(_) if refused(dialect) => "**sweep**; refused by `attach` on MySQL",
            Verdict::Captured => "yes",
            Verdict::Blind(_) => "**sweep**",
            Verdict::Drift => "**noticed**",
            Verdict::Absent => "–",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} | {} | {} | {} |", event.title, cell(Dialect::Sqlite), cell(Dialect::Postgres), cell(Dialect::Mysql));
    }
    text
}
