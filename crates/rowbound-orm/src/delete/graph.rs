//! The graph of cascades: what goes with one page of rows, and in which order.
//!
//! In: the relations of all tables, and the keys of a page of the query's rows. Out: signals and statements. Promise: as [`super`]'s; what is held are keys, and
//! [`ROWS`] rows at a time.

use std::collections::{HashMap, HashSet, VecDeque};

use sea_orm::{
    ConnectionTrait, DbBackend,
    sea_query::{Expr, Query, ValueTuple},
};

use super::{
    Deleted,
    sql::{delete_rows, in_keys, in_query, in_subquery, most, names, text},
};
use crate::{
    conn::Conn,
    entity::{Rows, Rule},
    error::{Error, Holders, Result},
    relation::{Child, Edge, Graph},
};

/// Rows in memory at a time.
const ROWS: usize = 500;

/// Rows that an error names.
const NAMED: u64 = 5;

impl Graph {
    /// Whether rows of a table can go in one statement: nobody listens, and nothing goes or changes with them.
    pub(super) fn lonely(&self, at: usize) -> bool {
        self.silent(at) && self.extends[at].is_empty() && self.incoming[at].iter().all(|edge| edge.rule == Rule::DoNothing)
    }

    /// The table of rows that go with others, where their keys must be read: somebody listens, something goes with them in turn, or they might hold others. Rows of other tables, and of
    /// those that nobody has registered, go by their reference alone.
    fn read(&self, child: &Child) -> Option<usize> {
        let Child::Known(at) = *child else { return None };
        let holds = |edge: &Edge| edge.rule == Rule::Restrict && matches!(edge.child, Child::Known(child) if child == at);
        (!self.lonely(at) || self.incoming.iter().flatten().any(holds)).then_some(at)
    }

    fn silent(&self, at: usize) -> bool {
        self.nodes[at].entities.iter().all(|entity| !entity.hears_before() && !entity.hears_after())
    }

    pub(super) fn restricts(&self, from: usize) -> bool {
        self.reach(from).iter().any(|at| self.incoming[*at].iter().any(|edge| edge.rule == Rule::Restrict))
    }
}

/// What goes with one page of rows.
pub(super) struct Doom<'g> {
    graph: &'g Graph,
    /// By table, in the order in which tables were reached: the keys, in the order and the steps in which they were found.
    tables: Vec<(usize, Vec<Vec<ValueTuple>>)>,
    seen: HashMap<usize, HashSet<ValueTuple>>,
    /// References to be emptied: the relation, and the keys of what is referred to.
    updates: Vec<(usize, Edge, Vec<ValueTuple>)>,
    /// Rows that go unread: the relation, and the keys of what is referred to.
    unread: Vec<(usize, Edge, Vec<ValueTuple>)>,
    /// Rows that hold others, unless they go too.
    holding: Vec<(usize, Edge, Vec<ValueTuple>)>,
}

impl<'g> Doom<'g> {
    pub(super) fn new(graph: &'g Graph) -> Self {
        Doom { graph, tables: Vec::new(), seen: HashMap::new(), updates: Vec::new(), unread: Vec::new(), holding: Vec::new() }
    }

    /// Adds keys; those that are new.
    fn add(&mut self, table: usize, keys: Vec<ValueTuple>) -> Vec<ValueTuple> {
        let seen = self.seen.entry(table).or_default();
        let fresh: Vec<_> = keys.into_iter().filter(|key| seen.insert(key.clone())).collect();
        if !fresh.is_empty() {
            match self.tables.iter_mut().find(|(known, _)| *known == table) {
                Some((_, steps)) => steps.push(fresh.clone()),
                None => self.tables.push((table, vec![fresh.clone()])),
            }
        }
        fresh
    }

    /// Follows the relations from these rows, breadth first.
    pub(super) async fn gather(&mut self, db: &Conn<'_>, root: usize, keys: Vec<ValueTuple>) -> Result<()> {
        let backend = db.get_database_backend();
        let mut next = VecDeque::from([(root, self.add(root, keys))]);
        while let Some((at, keys)) = next.pop_front() {
            for keys in keys.chunks(most(&keys)) {
                for edge in &self.graph.incoming[at] {
                    let referring = || edge.referring(&self.graph.nodes[at].table, &self.graph.nodes[at].key, keys, backend);
                    match (edge.rule, &edge.child) {
                        (Rule::DoNothing, _) => {}
                        (Rule::SetNull | Rule::SetDefault, _) => self.updates.push((at, edge.clone(), keys.to_vec())),
                        (Rule::Cascade | Rule::Extends, child) => match self.graph.read(child) {
                            None => self.unread.push((at, edge.clone(), keys.to_vec())),
                            Some(child) => {
                                let found = self.graph.nodes[child].entities[0].keys(db, referring(), None).await?;
                                let fresh = self.add(child, found);
                                if !fresh.is_empty() {
                                    next.push_back((child, fresh));
                                }
                            }
                        },
                        (Rule::Protect, Child::Known(child)) => {
                            let found = self.graph.nodes[*child].entities[0].keys(db, referring(), Some(NAMED)).await?;
                            if !found.is_empty() {
                                return Err(Error::Protected(self.holders(at, edge, &found)));
                            }
                        }
                        (Rule::Restrict, Child::Known(child)) => {
                            let found = self.graph.nodes[*child].entities[0].keys(db, referring(), None).await?;
                            if !found.is_empty() {
                                self.holding.push((at, edge.clone(), found));
                            }
                        }
                        // Their keys are not known: whether there are any is.
                        (Rule::Protect | Rule::Restrict, Child::Unknown(table)) => {
                            let mut any = Query::select();
                            any.expr(Expr::val(1)).from(table.clone()).cond_where(referring()).limit(1);
                            if db.query_one(&any).await?.is_some() {
                                return Err(Error::Restricted(self.holders(at, edge, &[])));
                            }
                        }
                    }
                }
                for (parent, edge) in &self.graph.extends[at] {
                    let (child, parent_node) = (&self.graph.nodes[at], &self.graph.nodes[*parent]);
                    let mut parts = Query::select();
                    parts.columns(edge.from.iter().cloned()).from(child.table.clone()).cond_where(in_keys(&child.key, keys, backend));
                    let found = parent_node.entities[0].keys(db, in_subquery(&edge.to, parts), None).await?;
                    let fresh = self.add(*parent, found);
                    if !fresh.is_empty() {
                        next.push_back((*parent, fresh));
                    }
                }
            }
        }
        Ok(())
    }

    fn holders(&self, of: usize, edge: &Edge, keys: &[ValueTuple]) -> Holders {
        Holders {
            of: self.graph.nodes[of].name.clone(),
            table: self.graph.child_name(edge),
            columns: names(&edge.from),
            keys: keys.iter().take(NAMED as usize).map(text).collect(),
        }
    }

    pub(super) fn check_restricted(&self) -> Result<()> {
        for (of, edge, keys) in &self.holding {
            let Child::Known(child) = edge.child else { continue };
            let goes = self.seen.get(&child);
            let stay: Vec<_> = keys.iter().filter(|key| !goes.is_some_and(|goes| goes.contains(*key))).cloned().collect();
            if !stay.is_empty() {
                return Err(Error::Restricted(self.holders(*of, edge, &stay)));
            }
        }
        Ok(())
    }

    pub(super) async fn carry_out(self, db: &Conn<'_>, deleted: &mut Deleted) -> Result<()> {
        let (nodes, backend) = (&self.graph.nodes, db.get_database_backend());
        let (order, circular) = self.order();
        // In a circle the database's own cascade may take a row before we come to it: what its receivers are to get is read before.
        let mut held: HashMap<usize, Vec<Vec<Rows>>> = HashMap::new();
        for (at, steps) in &self.tables {
            let node = &nodes[*at];
            let hold = circular.contains(at);
            for keys in steps.iter().flat_map(|keys| keys.chunks(ROWS)) {
                let mut chunk = Vec::new();
                for entity in &node.entities {
                    let keep = hold && entity.hears_after();
                    if !keep && !entity.hears_before() {
                        continue;
                    }
                    let rows = entity.rows(db, in_keys(&node.key, keys, backend)).await?;
                    entity.before(db, &rows).await?;
                    if keep {
                        chunk.push(rows);
                    }
                }
                if hold {
                    held.entry(*at).or_default().push(chunk);
                }
            }
        }
        for (of, edge, keys) in &self.unread {
            let table = match &edge.child {
                Child::Known(child) => &nodes[*child].table,
                Child::Unknown(table) => table,
            };
            let count = delete_rows(db, table, edge.referring(&nodes[*of].table, &nodes[*of].key, keys, backend)).await?;
            deleted.add(&self.graph.child_name(edge), count);
        }
        for (of, edge, keys) in &self.updates {
            self.empty(db, *of, edge, keys).await?;
        }
        for at in order {
            let node = &nodes[at];
            let steps = self.tables.iter().find(|(known, _)| *known == at).map_or(&[][..], |(_, steps)| steps);
            if let Some(chunks) = held.get(&at) {
                let mut count = 0;
                for keys in steps.iter().rev().flat_map(|keys| keys.chunks(most(keys))) {
                    count += keys.len() as u64;
                    delete_rows(db, &node.table, in_keys(&node.key, keys, backend)).await?;
                }
                deleted.add(&node.name, count);
                for chunk in chunks {
                    for (entity, rows) in node.entities.iter().filter(|entity| entity.hears_after()).zip(chunk) {
                        entity.after(db, rows).await?;
                    }
                }
                continue;
            }
            let listeners: Vec<_> = node.entities.iter().filter(|entity| entity.hears_after()).collect();
            let size = |keys| if listeners.is_empty() { most(keys) } else { ROWS };
            for keys in steps.iter().rev().flat_map(|keys| keys.chunks(size(keys))) {
                let mut read = Vec::with_capacity(listeners.len());
                for entity in &listeners {
                    read.push(entity.rows(db, in_keys(&node.key, keys, backend)).await?);
                }
                deleted.add(&node.name, delete_rows(db, &node.table, in_keys(&node.key, keys, backend)).await?);
                for (entity, rows) in listeners.iter().zip(&read) {
                    entity.after(db, rows).await?;
                }
            }
        }
        Ok(())
    }

    /// The tables, those that refer before those that are referred to; and those that refer to each other in a circle, or to themselves.
    fn order(&self) -> (Vec<usize>, HashSet<usize>) {
        let here: HashSet<usize> = self.tables.iter().map(|(at, _)| *at).collect();
        let mut order = Vec::new();
        let mut state: HashMap<usize, bool> = HashMap::new(); // false: on the way, true: done
        let mut circular = HashSet::new();
        for (at, _) in &self.tables {
            self.visit(*at, &here, &mut state, &mut Vec::new(), &mut order, &mut circular);
        }
        (order, circular)
    }

    fn visit(
        &self,
        at: usize,
        here: &HashSet<usize>,
        state: &mut HashMap<usize, bool>,
        way: &mut Vec<usize>,
        order: &mut Vec<usize>,
        circular: &mut HashSet<usize>,
    ) {
        match state.get(&at) {
            Some(true) => return,
            Some(false) => {
                circular.extend(way.iter().skip_while(|on| **on != at));
                return;
            }
            None => {}
        }
        state.insert(at, false);
        way.push(at);
        for edge in &self.graph.incoming[at] {
            if let (Child::Known(child), Rule::Cascade | Rule::Restrict | Rule::Extends) = (&edge.child, edge.rule)
                && here.contains(child)
            {
                self.visit(*child, here, state, way, order, circular);
            }
        }
        way.pop();
        state.insert(at, true);
        order.push(at);
    }

    /// Sets references to NULL or to their column's default.
    async fn empty(&self, db: &Conn<'_>, of: usize, edge: &Edge, keys: &[ValueTuple]) -> Result<()> {
        let (node, backend) = (&self.graph.nodes[of], db.get_database_backend());
        let (table, entity) = match &edge.child {
            Child::Known(child) => (&self.graph.nodes[*child].table, self.graph.nodes[*child].entities.first()),
            Child::Unknown(table) => (table, None),
        };
        let wrong = |why: &str, hint: &str| Error::Relation {
            table: self.graph.child_name(edge),
            columns: names(&edge.from),
            why: why.to_owned(),
            hint: hint.to_owned(),
        };
        let mut update = Query::update();
        update.table(table.clone());
        for column in &edge.from {
            let known = entity.and_then(|entity| entity.column(&column.to_string()));
            let value = match (edge.rule, known) {
                (Rule::SetNull, Some((false, _))) => {
                    return Err(wrong(
                        "says SetNull, and its column cannot be NULL",
                        "make the field an Option, or choose another on_delete",
                    ));
                }
                (Rule::SetNull, _) => Expr::null(),
                (_, Some((_, Some(default)))) => default,
                (_, _) if backend != DbBackend::Sqlite => Expr::custom_keyword("DEFAULT"),
                (_, _) => {
                    return Err(wrong(
                        "says SetDefault, and its entity does not say the default",
                        "write #[sea_orm(default_value = ..)] on the field: SQLite cannot set a column to its own default",
                    ));
                }
            };
            update.value(column.clone(), value);
        }
        let mut which = edge.referring(&node.table, &node.key, keys, backend);
        if matches!(edge.child, Child::Known(child) if child == of) && edge.to != node.key && backend == DbBackend::MySql {
            // MySQL does not read the table that it changes, but for a derived one.
            let mut own = Query::select();
            own.columns(edge.to.iter().cloned()).from(node.table.clone()).cond_where(in_keys(&node.key, keys, backend));
            which = in_query(&edge.from, own, DbBackend::MySql);
        }
        update.cond_where(which);
        db.execute(&update).await?;
        Ok(())
    }
}
