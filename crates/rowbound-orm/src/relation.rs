//! Relations: which rows go with a row.
//!
//! In: the relations of all entities, from both ends. Out: for each table, the tables that refer to it, by which columns and under which rule. Promise: what
//! is said at one end holds at both, and a relation that is said at both ends is one.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock},
};

use sea_orm::{
    ForeignKeyAction, Identity, RelationDef,
    sea_query::{DynIden, SchemaName, TableName, TableRef},
};

use crate::{
    entity::{AnyEntity, Rule},
    registry::ENTITIES,
};

/// A table, and every entity that is made of it.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) table: TableRef,
    pub(crate) key: Vec<DynIden>,
    pub(crate) entities: Vec<Arc<dyn AnyEntity>>,
}

/// Rows that refer to rows of another table.
#[derive(Clone)]
pub(crate) struct Edge {
    /// The table that refers; one that no entity was registered for has only its name.
    pub(crate) child: Child,
    /// Its columns that do.
    pub(crate) from: Vec<DynIden>,
    /// The columns that they refer to.
    pub(crate) to: Vec<DynIden>,
    pub(crate) rule: Rule,
}

#[derive(Clone)]
pub(crate) enum Child {
    Known(usize),
    Unknown(TableRef),
}

/// All tables of the program and what refers to them.
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    /// By the table that is referred to.
    pub(crate) incoming: Vec<Vec<Edge>>,
    /// Tables that a table's rows are parts of: the table, the relation's columns there and here.
    pub(crate) extends: Vec<Vec<(usize, Edge)>>,
}

/// Of all entities of the program; they do not change while it runs.
pub(crate) static GRAPH: LazyLock<Graph> = LazyLock::new(|| Graph::of(ENTITIES.iter().map(|(_, entity)| entity.clone())));

impl Graph {
    fn of(entities: impl IntoIterator<Item = Arc<dyn AnyEntity>>) -> Graph {
        let mut nodes: Vec<Node> = Vec::new();
        let mut by_name: HashMap<String, usize> = HashMap::new();
        for entity in entities {
            let name = entity.name();
            let at = *by_name.entry(name.clone()).or_insert_with(|| {
                nodes.push(Node { name, table: entity.table(), key: entity.key(), entities: Vec::new() });
                nodes.len() - 1
            });
            nodes[at].entities.push(entity);
        }
        let mut graph =
            Graph { incoming: nodes.iter().map(|_| Vec::new()).collect(), extends: nodes.iter().map(|_| Vec::new()).collect(), nodes };
        // First the ends that hold the columns: they say what is to become of their rows. Then the others, where the first said nothing.
        for owners in [false, true] {
            for at in 0..graph.nodes.len() {
                for entity in graph.nodes[at].entities.clone() {
                    let rules = entity.rules();
                    for relation in entity.relations().into_iter().filter(|relation| relation.is_owner == owners) {
                        graph.relation(at, &relation, &rules, &by_name);
                    }
                }
            }
        }
        graph
    }

    fn relation(&mut self, here: usize, relation: &RelationDef, rules: &[(RelationDef, Rule)], by_name: &HashMap<String, usize>) {
        // One that holds only under a condition is a view of another relation, or none that a foreign key could keep.
        if relation.on_condition.is_some() {
            return;
        }
        let there = name_of(&relation.to_tbl).and_then(|name| by_name.get(&name).copied());
        let rule = rules
            .iter()
            .find(|(said, _)| said.from_col == relation.from_col && said.to_tbl == relation.to_tbl && said.to_col == relation.to_col)
            .map_or_else(|| rule_of(relation.on_delete), |(_, rule)| *rule);
        let (from, to) = (columns(&relation.from_col), columns(&relation.to_col));
        if relation.is_owner {
            // This table is referred to.
            let child = there.map_or_else(|| Child::Unknown(relation.to_tbl.clone()), Child::Known);
            self.add(here, Edge { child, from: to, to: from, rule });
        } else if let Some(parent) = there {
            let edge = Edge { child: Child::Known(here), from, to, rule };
            if rule == Rule::Extends {
                self.extends[here].push((parent, edge.clone()));
            }
            self.add(parent, edge);
        }
    }

    fn add(&mut self, parent: usize, edge: Edge) {
        let same = |known: &Edge| known.from == edge.from && self.nodes_name(&known.child) == self.nodes_name(&edge.child);
        match self.incoming[parent].iter().position(same) {
            // Said again, at the other end or by another entity of the table: what says something counts.
            Some(known) if self.incoming[parent][known].rule == Rule::DoNothing => self.incoming[parent][known].rule = edge.rule,
            Some(_) => {}
            None => self.incoming[parent].push(edge),
        }
    }

    fn nodes_name(&self, child: &Child) -> String {
        match child {
            Child::Known(at) => self.nodes[*at].name.clone(),
            Child::Unknown(table) => name_of(table).unwrap_or_default(),
        }
    }

    /// The name of a table that refers to others.
    pub(crate) fn child_name(&self, edge: &Edge) -> String {
        self.nodes_name(&edge.child)
    }

    /// The table of an entity's type.
    pub(crate) fn node(&self, entity: std::any::TypeId) -> Option<usize> {
        self.nodes.iter().position(|node| node.entities.iter().any(|known| known.id() == entity))
    }

    /// Every table that rows of this one may take with them, itself included.
    pub(crate) fn reach(&self, from: usize) -> Vec<usize> {
        let mut reached = vec![from];
        let mut next = 0;
        while let Some(&at) = reached.get(next) {
            next += 1;
            let children = self.incoming[at].iter().filter_map(|edge| match (edge.rule, &edge.child) {
                (Rule::Cascade | Rule::Extends, Child::Known(child)) => Some(*child),
                _ => None,
            });
            for other in children.chain(self.extends[at].iter().map(|(parent, _)| *parent)) {
                if !reached.contains(&other) {
                    reached.push(other);
                }
            }
        }
        reached
    }
}

fn rule_of(action: Option<ForeignKeyAction>) -> Rule {
    match action {
        Some(ForeignKeyAction::Cascade) => Rule::Cascade,
        Some(ForeignKeyAction::Restrict) => Rule::Restrict,
        Some(ForeignKeyAction::SetNull) => Rule::SetNull,
        Some(ForeignKeyAction::SetDefault) => Rule::SetDefault,
        Some(_) | None => Rule::DoNothing,
    }
}

fn columns(identity: &Identity) -> Vec<DynIden> {
    identity.iter().cloned().collect()
}

/// `[schema.]table`.
fn name_of(table: &TableRef) -> Option<String> {
    match table {
        TableRef::Table(TableName(None, name), _) => Some(name.to_string()),
        TableRef::Table(TableName(Some(SchemaName(_, schema)), name), _) => Some(format!("{schema}.{name}")),
        _ => None,
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
