//! Foreign keys -> what a delete or an update of an ancestor reaches without firing a trigger.
//!
//! In: the keys of the catalog. Out: [`Reach`]: for every bound column the *causes*, tables whose rows' vanishing or whose columns' change makes the
//! column released a name, and how one leads to the next. InnoDB carries the actions out below the triggers, so the BEFORE triggers of every
//! cause look along these steps.

use std::collections::{BTreeSet, VecDeque};

use super::catalog::{Action, Catalog, ForeignKey, TableName};
use crate::capture::Bound;

/// What happens to a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    /// It is deleted.
    Vanish,
    /// One of these columns changes.
    Columns(BTreeSet<String>),
}

/// Something that happens to a table's row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Effect {
    pub table: TableName,
    pub change: Change,
}

/// One effect brings about the next through a foreign key. Numbers are places in [`Reach::effects`] and [`Catalog::keys`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Step {
    pub cause: usize,
    pub result: usize,
    pub key: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Reach<'a> {
    catalog: &'a Catalog,
    pub effects: Vec<Effect>,
    pub steps: BTreeSet<Step>,
    /// Which effects make which binding (its place in `bound`) release.
    pub releases: Vec<(usize, usize)>,
}

/// The ways from a cause to a release.
#[derive(Debug)]
pub(super) enum Routes {
    /// Few, and none comes back to where it was: each a list of steps.
    Paths(Vec<Vec<Step>>),
    /// A table is reached from itself, or there are many: all steps between.
    Web(BTreeSet<Step>),
}

/// With more paths than this one recursive query costs less than a join for each.
const MANY: usize = 16;

impl<'a> Reach<'a> {
    /// Works backwards from the bound columns.
    pub(super) fn of(catalog: &'a Catalog, bound: &[Bound]) -> Self {
        let mut reach = Reach { catalog, effects: Vec::new(), steps: BTreeSet::new(), releases: Vec::new() };
        let mut open = VecDeque::new();
        for (place, b) in bound.iter().enumerate() {
            let Some((name, table)) = catalog.table_of(&b.binding.column) else { continue };
            let Some(column) = table.column(&b.binding.column.column) else { continue };
            for change in [Change::Vanish, Change::Columns(BTreeSet::from([column.name.clone()]))] {
                let effect = reach.effect(Effect { table: name.clone(), change }, &mut open);
                reach.releases.push((effect, place));
            }
        }
        while let Some(result) = open.pop_front() {
            let effect = reach.effects[result].clone();
            for (key, fk) in catalog.keys.iter().enumerate().filter(|(_, fk)| fk.child == effect.table) {
                for change in causes(fk, &effect.change) {
                    let cause = reach.effect(Effect { table: fk.parent.clone(), change }, &mut open);
                    reach.steps.insert(Step { cause, result, key });
                }
            }
        }
        reach
    }

    fn effect(&mut self, effect: Effect, open: &mut VecDeque<usize>) -> usize {
        self.effects.iter().position(|e| *e == effect).unwrap_or_else(|| {
            self.effects.push(effect);
            open.push_back(self.effects.len() - 1);
            self.effects.len() - 1
        })
    }

    /// The keys that take part.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'a ForeignKey> {
        let places: BTreeSet<_> = self.steps.iter().map(|s| s.key).collect();
        let catalog = self.catalog;
        places.into_iter().map(|place| &catalog.keys[place])
    }

    /// The effects that bring about others: their tables need triggers.
    pub(super) fn causes(&self) -> BTreeSet<usize> {
        self.steps.iter().map(|s| s.cause).collect()
    }

    /// All ways from `cause` to `release`; `None` if there is none.
    pub(super) fn routes(&self, cause: usize, release: usize) -> Option<Routes> {
        let forward = self.closure(cause, |s| (s.cause, s.result));
        let backward = self.closure(release, |s| (s.result, s.cause));
        let web: BTreeSet<Step> =
            self.steps.iter().filter(|s| forward.contains(&s.cause) && backward.contains(&s.result)).copied().collect();
        if web.is_empty() {
            return None;
        }
        let mut paths = Vec::new();
        if follow(&web, cause, release, &mut Vec::new(), &mut paths) { Some(Routes::Paths(paths)) } else { Some(Routes::Web(web)) }
    }

    fn closure(&self, from: usize, along: impl Fn(&Step) -> (usize, usize)) -> BTreeSet<usize> {
        let mut seen = BTreeSet::from([from]);
        let mut open = vec![from];
        while let Some(at) = open.pop() {
            for (_, to) in self.steps.iter().map(&along).filter(|(a, _)| *a == at) {
                if seen.insert(to) {
                    open.push(to);
                }
            }
        }
        seen
    }
}

/// What must happen to the parent for `change` to happen to the child.
fn causes(fk: &ForeignKey, change: &Change) -> Vec<Change> {
    let mut causes = Vec::new();
    match change {
        Change::Vanish => {
            if fk.on_delete == Action::Cascade {
                causes.push(Change::Vanish);
            }
        }
        Change::Columns(columns) => {
            let touched: BTreeSet<_> = fk.columns.iter().filter(|(c, _)| columns.contains(c)).map(|(_, p)| p.clone()).collect();
            if touched.is_empty() {
                return causes;
            }
            if fk.on_delete == Action::SetNull {
                causes.push(Change::Vanish);
            }
            match fk.on_update {
                Action::Refuse => {}
                Action::Cascade => causes.push(Change::Columns(touched)),
                // All of the child's columns go when any of the parent's changes.
                Action::SetNull => causes.push(Change::Columns(fk.columns.iter().map(|(_, p)| p.clone()).collect())),
            }
        }
    }
    causes
}

/// Collects paths; `false` as soon as one comes back to where it was or there are many.
fn follow(web: &BTreeSet<Step>, at: usize, goal: usize, path: &mut Vec<Step>, paths: &mut Vec<Vec<Step>>) -> bool {
    if at == goal && !path.is_empty() {
        paths.push(path.clone());
    }
    for step in web.iter().filter(|s| s.cause == at) {
        let returns = step.result == step.cause || path.iter().any(|p| p.cause == step.result);
        if returns || paths.len() > MANY {
            return false;
        }
        path.push(*step);
        let fine = follow(web, step.result, goal, path, paths);
        path.pop();
        if !fine {
            return false;
        }
    }
    paths.len() <= MANY
}
