//! Modes: when a transaction can be seen, what a storage can do, what applications do, which faults happen, what is assumed.

use crate::protocol::Protocol;

/// When a transaction can be seen by a barrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Visibility {
    /// SQLite's deferred BEGIN: never seen. The first write takes the write lock, which shuts out all other writers.
    Deferred,
    /// InnoDB: seen from its first access to a table on. `START TRANSACTION` and statements without a table show nothing.
    FirstAccess,
    /// A driver that sends BEGIN with the first statement: seen from that statement on.
    DriverBegin,
    /// No transaction: each statement commits by itself.
    Autocommit,
}

impl Visibility {
    /// All of them.
    pub const ALL: [Visibility; 4] = [Visibility::Deferred, Visibility::FirstAccess, Visibility::DriverBegin, Visibility::Autocommit];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Visibility::Deferred => "SQLite, deferred BEGIN",
            Visibility::FirstAccess => "InnoDB, first access",
            Visibility::DriverBegin => "driver's BEGIN",
            Visibility::Autocommit => "autocommit",
        }
    }

    /// One writer at a time, one worker, no leases.
    pub fn locks(self) -> bool {
        self == Visibility::Deferred
    }

    /// Whether a transaction can be visible before it looks at the file.
    pub fn opens(self) -> bool {
        matches!(self, Visibility::FirstAccess | Visibility::DriverBegin)
    }
}

/// What a storage can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Storage {
    /// A folder with a trash: moves are renames, conditional on the file that was seen.
    Folder,
    /// `trash = "off"`: a hold of a minute, then erased.
    Off,
    /// A versioned bucket: a move is a delete marker. Its condition is the ETag, which equal bytes share.
    Versioned,
    /// A plain bucket: no move, the file is erased after a check of its own chunk.
    Plain,
}

impl Storage {
    /// All of them.
    pub const ALL: [Storage; 4] = [Storage::Folder, Storage::Off, Storage::Versioned, Storage::Plain];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Storage::Folder => "folder with trash",
            Storage::Off => "trash off",
            Storage::Versioned => "versioned bucket",
            Storage::Plain => "plain bucket",
        }
    }
}

/// What an application's transaction does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Deletes a row: the last reference, or one of several.
    Delete,
    /// Deletes a row and inserts it again in the same transaction.
    Touch,
    /// Looks, before or after it becomes visible, and references what it found.
    Reference,
    /// Uploads through Rowbound: announce, place under a free name, insert the row.
    Upload,
    /// Puts a file under the same name without Rowbound, over what is there, and inserts a row.
    Replace,
    /// Inserts the row of the start again after its deletion, without a look.
    Undo,
    /// A person restores the file from the trash and inserts a row.
    Restore,
    /// One of several readers that overlap for ever: it ends only while another is open.
    Reader,
    /// A transaction that begins and never ends, such as a dump.
    Dump,
}

impl Kind {
    /// A letter for reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Delete => "delete",
            Kind::Touch => "delete and insert again",
            Kind::Reference => "look and reference",
            Kind::Upload => "upload",
            Kind::Replace => "replace",
            Kind::Undo => "undo",
            Kind::Restore => "restore by hand",
            Kind::Reader => "overlapping reader",
            Kind::Dump => "dump",
        }
    }

    /// Whether the end of a run does not wait for it.
    pub fn endless(self) -> bool {
        matches!(self, Kind::Reader | Kind::Dump)
    }
}

/// Which faults may happen, and how many in one run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Faults {
    /// How many in one run.
    pub budget: u8,
    /// A process is killed.
    pub kill: bool,
    /// A process is paused past its lease, or loses it, and goes on later.
    pub lapse: bool,
    /// The storage fails once.
    pub storage: bool,
    /// The settlement's COMMIT fails.
    pub commit: bool,
    /// Somebody else erases a file of the trash that nobody references.
    pub purge: bool,
}

impl Faults {
    /// None.
    pub const NONE: Faults = Faults { budget: 0, kill: false, lapse: false, storage: false, commit: false, purge: false };

    /// So many of any kind.
    pub const fn any(budget: u8) -> Faults {
        Faults { budget, kill: true, lapse: true, storage: true, commit: true, purge: true }
    }
}

/// What the guarantee rests on. Each can be switched off, to see what it is good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Assumptions {
    /// A transaction that looked at a file before its move ends before the file's retention does.
    pub hold_outlives_lookers: bool,
    /// It ends before the window of the re-checks is over. Without it, late ones are reported instead of repaired.
    pub window_outlives_lookers: bool,
    /// An announced upload is not due before its file is placed or its process has died.
    pub stage_outlives_placing: bool,
    /// `min_age` outlives the transactions of uploads: a file newer than its release waits for them.
    pub min_age_outlives_uploads: bool,
    /// Every look comes after its transaction is visible (on SQLite: after BEGIN IMMEDIATE).
    pub lookers_are_visible: bool,
    /// No transaction of the application takes a step while a chunk is taken away. It is the window of a plain bucket, stated in the docs.
    pub chunk_undisturbed: bool,
    /// No process is paused past its lease within a chunk, which takes a second at most.
    pub chunk_within_lease: bool,
}

impl Assumptions {
    /// What the design assumes.
    pub const DESIGN: Assumptions = Assumptions {
        hold_outlives_lookers: true,
        window_outlives_lookers: true,
        stage_outlives_placing: true,
        min_age_outlives_uploads: false,
        lookers_are_visible: false,
        chunk_undisturbed: false,
        chunk_within_lease: false,
    };
}

/// One run of the search.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// When transactions can be seen.
    pub visibility: Visibility,
    /// What the storage can do.
    pub storage: Storage,
    /// The application's transactions, each of which runs at most once.
    pub workload: Vec<Kind>,
    /// Faults.
    pub faults: Faults,
    /// Assumptions.
    pub assume: Assumptions,
    /// Equal bytes are written again: on a bucket, their ETag is the same.
    pub same_bytes: bool,
    /// The protocol, or a mutant of it.
    pub protocol: Protocol,
}

impl Scenario {
    /// A scenario of the protocol as it is designed.
    pub fn new(visibility: Visibility, storage: Storage, workload: &[Kind], faults: Faults) -> Scenario {
        let mut assume = Assumptions::DESIGN;
        // Without a trash nothing repairs an upload that is collected before its row commits.
        assume.min_age_outlives_uploads = storage == Storage::Plain;
        Scenario {
            visibility,
            storage,
            workload: workload.to_vec(),
            faults,
            assume,
            same_bytes: storage == Storage::Versioned,
            protocol: Protocol::DESIGN,
        }
    }

    /// One line for reports.
    pub fn title(&self) -> String {
        let work: Vec<_> = self.workload.iter().map(|k| k.name()).collect();
        format!("{}; {}; {}", self.visibility.name(), self.storage.name(), work.join(" + "))
    }

    /// Workers: one on SQLite.
    pub fn workers(&self) -> usize {
        if self.visibility.locks() { 1 } else { crate::state::WORKERS }
    }

    /// Processes that check again and erase: a second one only matters where a lease can be lost.
    pub fn keepers(&self) -> usize {
        if self.faults.lapse && self.faults.budget > 0 { crate::state::KEEPERS } else { 1 }
    }
}
