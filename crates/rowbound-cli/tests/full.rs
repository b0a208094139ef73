//! Where a file cannot be moved to the trash: a full disk, a quota that is used up, another file system that is mounted below the root. With `trash = "off"`
//! deletion goes on: files are erased where they lie. With a trash they stay, their candidates say why, and it goes on when there is room. In neither case is a
//! referenced file lost.
//!
//! The file systems are real, and so are their errors. Each test runs once more in a process with a mount namespace of its own, which takes its mounts with it
//! however it ends. As root it is a plain one; for anybody else a user namespace, in which a tmpfs can be mounted but no disk: then the tests that need a disk
//! fail and say so.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rowbound::Trash;
use rowbound_testkit::{Backend, Output, Rowbound, World};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);
const DAY: Trash = Trash::Keep(Duration::from_secs(86_400));

/// Says to a process that it may mount.
const CHILD: &str = "ROWBOUND_TEST_CHILD";

/// `nobody`: no quota holds for root.
const NOBODY: u32 = 65_534;

/// How the ledger notes what was erased without a move.
const IN_PLACE: &str = "it was erased where it lay";

/// Whether this process may mount. If not, it runs the test in one that may, and insists that it passes.
fn may_mount(test: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let how = if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" };
    let mut child = Command::new("unshare");
    child.arg(how).arg(std::env::current_exe().expect("our own path")).args(["--exact", test, "--nocapture", "--test-threads=1"]);
    let output = child.env(CHILD, "1").output().expect("this test needs `unshare` of util-linux");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{out}");
    assert!(
        out.contains("running 1 test"),
        "`unshare {how}` failed: {err}\nthis test mounts file systems: run it as root, or where users may make namespaces \
         (sysctl kernel.unprivileged_userns_clone=1)"
    );
    assert!(output.status.success() && out.contains("1 passed"), "{err}");
    false
}

fn run(words: &[&str]) -> std::process::Output {
    Command::new(words[0]).args(&words[1..]).output().unwrap_or_else(|e| panic!("cannot run {words:?}: {e}"))
}

/// Insists that a command succeeds; `needs` says what it takes.
fn must(words: &[&str], needs: &str) {
    let output = run(words);
    assert!(output.status.success(), "{}: {}\nthis test needs {needs}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder's name is text")
}

/// A mounted file system, until this is dropped.
#[derive(Debug)]
struct Mounted(PathBuf);

impl Mounted {
    fn new(options: &[&str], at: &Path, needs: &str) -> Self {
        must(&[&["mount"], options, &[text(at)]].concat(), needs);
        Mounted(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let output = run(&["umount", "-l", text(&self.0)]);
        if !output.status.success() {
            eprintln!("{} is mounted still: {}", self.0.display(), String::from_utf8_lossy(&output.stderr).trim());
        }
    }
}

/// Why a file cannot be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// A tmpfs has no inode left for a folder.
    NoInode,
    /// An ext4 has no block left for a folder.
    NoBlock,
    /// A group's limit on a btrfs is reached: not even a rename is allowed.
    Quota,
    /// The files lie on another file system than the root.
    MountBelow,
}

/// The media folder of a world on a file system of its own, and the folder of the files that cannot be moved.
#[derive(Debug)]
struct Site {
    why: Why,
    media: PathBuf,
    user: Option<u32>,
    _mounted: Mounted,
}

impl Site {
    /// Mounts it: before `attach`.
    fn new(world: &World, why: Why) -> Site {
        const DISK: &str = "root, and a kernel with loop devices and ext4";
        const QUOTA: &str = "root, and a kernel with loop devices and btrfs, and btrfs-progs: no quota can be had otherwise";
        let (media, image) = (world.media(), world.folder().join("image"));
        let disk = |size: u64| fs::File::create(&image).and_then(|f| f.set_len(size)).expect("cannot make an image");
        let mounted = match why {
            Why::NoInode => Mounted::new(&["-t", "tmpfs", "-o", "size=4m,nr_inodes=60", "tmpfs"], &media, "a mount namespace"),
            Why::MountBelow => {
                let below = media.join("d");
                fs::create_dir(&below).expect("cannot make a folder");
                Mounted::new(&["-t", "tmpfs", "-o", "size=4m", "tmpfs"], &below, "a mount namespace")
            }
            Why::NoBlock => {
                disk(4 << 20);
                must(&["mkfs.ext4", "-q", "-F", "-m", "0", text(&image)], DISK);
                let mounted = Mounted::new(&["-t", "ext4", "-o", "loop", text(&image)], &media, DISK);
                fs::remove_dir(media.join("lost+found")).expect("cannot remove a folder");
                mounted
            }
            Why::Quota => {
                disk(128 << 20);
                must(&["mkfs.btrfs", "-q", "-f", "-M", text(&image)], QUOTA);
                let mounted = Mounted::new(&["-t", "btrfs", "-o", "loop", text(&image)], &media, QUOTA);
                must(&["btrfs", "quota", "enable", text(&media)], QUOTA);
                must(&["btrfs", "qgroup", "limit", "1M", text(&media)], QUOTA);
                mounted
            }
        };
        let user = (why == Why::Quota).then_some(NOBODY);
        if let Some(user) = user {
            world.give_to(user);
        }
        Site { why, media, user, _mounted: mounted }
    }

    fn rowbound(&self, world: &World) -> Rowbound {
        let rowbound = Rowbound::new(BINARY, world);
        match self.user {
            Some(user) => {
                let rowbound = rowbound.as_user(user);
                world.give_to(user);
                rowbound
            }
            None => rowbound,
        }
    }

    /// A shell in the media folder, as the user that the limit holds for.
    fn shell(&self, script: &str) -> String {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).current_dir(&self.media);
        if let Some(user) = self.user {
            shell.uid(user).gid(user);
        }
        let output = shell.output().expect("cannot start a shell");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// Takes all the room there is, and proves it.
    fn fill(&self) {
        if self.why == Why::MountBelow {
            return;
        }
        // What is left after a file that takes all it can get goes to folders, because it is folders that the trash needs.
        let said = self.shell(
            "mkdir -p fill-folders 2>/dev/null
             head -c 4194304 /dev/zero 2>/dev/null >>fill-file
             i=0
             while [ $i -lt 2000 ] && mkdir probe 2>/dev/null; do
                 rmdir probe
                 mkdir fill-folders/$$-$i 2>/dev/null || mkdir fill-$$-$i 2>/dev/null || sync -f .
                 i=$((i+1))
             done
             mkdir probe",
        );
        let wanted = if self.why == Why::Quota { "Disk quota exceeded" } else { "No space left on device" };
        assert!(said.contains(wanted), "{:?} is not full: {said}", self.why);
        println!("{:?}: {}", self.why, said.trim());
    }

    /// Gives it back.
    fn make_room(&self) {
        let said = self.shell("rm -rf fill-*; sync -f .; mkdir probe && rmdir probe");
        assert_eq!(said, "", "there is no room again");
    }
}

/// Each entry of a name in the ledger: outcome, and note; the oldest first.
async fn ledger(world: &World, name: &str) -> Vec<(String, String)> {
    let table = world.own_table("ledger");
    let sql = format!("select outcome || '|' || coalesce(note, '') from {table} where name = '{name}' order by id");
    let entries = world.db.query_strings(&sql).await.into_iter().flatten();
    entries.filter_map(|e| e.split_once('|').map(|(outcome, note)| (outcome.to_owned(), note.to_owned()))).collect()
}

fn show(what: &str, output: &Output) {
    println!("$ rowbound {what}\n{}{}-- exit {:?}", output.stdout, output.stderr, output.code);
}

/// The references of a world that must keep their files whatever happens: one of one row, one of two rows of which one goes.
const KEPT: [&str; 2] = ["d/kept.jpg", "d/shared.jpg"];

async fn put(world: &World, site: &Site, names: &[String]) {
    for name in names.iter().map(String::as_str).chain(KEPT) {
        world.put_doc(name).await;
    }
    world.db.exec("insert into doc (file, title) values ('d/shared.jpg', 'second')").await;
    if let Some(user) = site.user {
        world.give_to(user);
    }
}

async fn release(world: &World, names: &[String]) {
    let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    world.db.exec(&format!("delete from doc where title = 'second' or file in ({})", names.join(", "))).await;
}

fn names(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| format!("d/{n}.jpg")).collect()
}

/// Without a trash: beside a daemon, again and again on a place that is full.
async fn deletion_goes_on(backend: Backend, why: Why) {
    let world = World::new(backend).await.with_docs().await.storage(|s| s.trash(Trash::Off));
    let site = Site::new(&world, why);
    let rowbound = site.rowbound(&world);
    rowbound.run(&["attach"]).await.expect(0);
    put(&world, &site, &names(0, 20)).await;
    world.put_doc("movable.jpg").await;
    site.fill();
    let daemon = rowbound.spawn(&["run", "--poll", "20ms"]);
    daemon.wait_for_line("collecting", DEADLINE).await;
    for round in 0..3 {
        let round = names(round * 5, round * 5 + 5);
        site.fill();
        release(&world, &round).await;
        let gone = || async { round.iter().all(|name| !site.media.join(name).exists()) };
        daemon.until(DEADLINE, "deletion stands still", gone).await;
        let told = || async {
            for name in &round {
                if ledger(&world, name).await.is_empty() {
                    return false;
                }
            }
            true
        };
        daemon.until(DEADLINE, "it is not settled", told).await;
        // What goes makes room: on a slow machine a chunk is smaller than the round, and the next one may find room for its trash.
        let mut in_place = 0;
        for name in &round {
            let said = ledger(&world, name).await;
            match said.first() {
                Some((outcome, note)) if outcome == "erased" && note.contains(IN_PLACE) => in_place += 1,
                Some((outcome, _)) if outcome == "trashed" => {}
                _ => panic!("{name}: {said:?}"),
            }
        }
        assert!(in_place > 0, "there was room for all of {round:?}");
    }
    println!("{backend}, {why:?}: they were erased where they lay: {:?}", ledger(&world, "d/0.jpg").await);
    show("status", &rowbound.run(&["status"]).await.expect(0));
    assert_eq!(world.holds("d/kept.jpg") + &world.holds("d/shared.jpg"), "d/kept.jpgd/shared.jpg");

    // Room again, and what lies elsewhere: held for a moment, like everywhere.
    site.make_room();
    let last = if why == Why::MountBelow { vec!["movable.jpg".to_owned()] } else { names(15, 20) };
    release(&world, &last).await;
    daemon.until(DEADLINE, "it is not erased", || async { world.outcomes(&last[0]).await.len() == 2 }).await;
    assert_eq!(world.outcomes(&last[0]).await, ["trashed", "erased"], "{:?}", ledger(&world, &last[0]).await);
    daemon.terminate();
    show("run --poll 20ms", &daemon.wait(DEADLINE).await.expect(0));
    site.shell("rm -rf probe");
    world.assert_files_follow_rows().await;
}

/// Without a trash: a row that commits after the worker has checked, and before it finds that it cannot move the file, keeps the file.
async fn a_row_that_commits_in_time_keeps_its_file(backend: Backend, why: Why) {
    let world = World::new(backend).await.with_docs().await.storage(|s| s.trash(Trash::Off));
    let site = Site::new(&world, why);
    let rowbound = site.rowbound(&world);
    rowbound.run(&["attach"]).await.expect(0);
    put(&world, &site, &names(0, 3)).await;
    site.fill();
    release(&world, &names(0, 3)).await;
    let (held, place) = rowbound.held_at("confirmed");
    let collector = held.spawn(&["collect", "--patience", "40s"]);
    place.reached(&collector, DEADLINE).await;
    world.db.exec("insert into doc (file) values ('d/1.jpg')").await;
    place.let_go();
    show("collect", &collector.wait(DEADLINE).await);
    assert_eq!([world.outcomes("d/0.jpg").await, world.outcomes("d/1.jpg").await], [["erased"], ["kept"]]);
    assert_eq!(world.holds("d/1.jpg"), "d/1.jpg");
    site.make_room();
    world.assert_files_follow_rows().await;
}

/// With a trash: files stay, every command says why, and it goes on.
async fn files_stay_until_they_can_be_moved(backend: Backend, why: Why) {
    let mut world = World::new(backend).await.with_docs().await.storage(|s| s.trash(DAY));
    let site = Site::new(&world, why);
    let rowbound = site.rowbound(&world);
    rowbound.run(&["attach"]).await.expect(0);
    put(&world, &site, &names(0, 5)).await;
    world.put_doc("movable.jpg").await;
    site.fill();
    let mut released = names(0, 5);
    if why == Why::MountBelow {
        // What lies on the root's own file system goes, in the same batch.
        released.push("movable.jpg".to_owned());
    }
    release(&world, &released).await;
    let collect = rowbound.run(&["collect"]).await;
    show("collect", &collect);
    assert_eq!(collect.code, Some(1));
    for name in names(0, 5) {
        assert_eq!(world.holds(&name), name, "it stays");
        assert!(world.outcomes(&name).await.is_empty(), "nothing is decided");
    }
    assert_eq!(site.media.join("movable.jpg").exists(), why != Why::MountBelow);

    // Each candidate has the reason and what to do; `status` and `explain` show it.
    let (reason, next) = match why {
        Why::MountBelow => ("Invalid cross-device link", "set trash = \"off\""),
        Why::Quota => ("Disk quota exceeded", "make room"),
        Why::NoInode | Why::NoBlock => ("No space left on device", "make room"),
    };
    let (status, explain) = (rowbound.run(&["status"]).await, rowbound.run(&["explain", "d/0.jpg"]).await);
    show("status", &status);
    show("explain d/0.jpg", &explain);
    assert_eq!(status.code, Some(1));
    for said in [&status.stdout, &explain.stdout] {
        assert!(said.contains("d/0.jpg") && said.contains(reason) && said.contains(next), "{said}");
        assert!(said.contains(text(&site.media)), "it names the place: {said}");
    }

    // Beside a daemon, which goes on by itself.
    let daemon = rowbound.spawn(&["run", "--poll", "20ms"]);
    daemon.wait_for_line("collecting", DEADLINE).await;
    let kept = |n: usize| format!("d/{n}.jpg");
    assert!((0..5).all(|n| site.media.join(kept(n)).exists()));
    if why == Why::MountBelow {
        // The hint, followed.
        daemon.terminate();
        show("run --poll 20ms", &daemon.wait(DEADLINE).await.expect(0));
        world = world.storage(|s| s.trash(Trash::Off));
        let rowbound = site.rowbound(&world);
        show("collect --retry-now", &rowbound.run(&["collect", "--retry-now"]).await.expect(0));
        assert_eq!(world.outcomes("d/0.jpg").await, ["erased"]);
        rowbound.run(&["status"]).await.expect(0);
        world.assert_files_follow_rows().await;
        return;
    }
    site.make_room();
    let began = Instant::now();
    let gone = || async { (0..5).all(|n| !site.media.join(kept(n)).exists()) };
    daemon.until(DEADLINE, "it does not go on", gone).await;
    println!("{backend}, {why:?}: moved {:.1} s after there was room", began.elapsed().as_secs_f64());
    for name in names(0, 5) {
        daemon.until(DEADLINE, "it is not settled", || async { world.outcomes(&name).await == ["trashed"] }).await;
    }
    daemon.terminate();
    show("run --poll 20ms", &daemon.wait(DEADLINE).await.expect(0));
    assert_eq!(world.trashed().iter().filter(|place| place.ends_with(".jpg")).count(), 5, "{:?}", world.trashed());
    rowbound.run(&["status"]).await.expect(0);
    rowbound.run(&["restore", "d/0.jpg"]).await.expect(0);
    assert_eq!(world.holds("d/0.jpg"), "d/0.jpg");
    fs::remove_file(site.media.join("d/0.jpg")).expect("cannot remove a file");
    world.assert_files_follow_rows().await;
}

/// A row references a file in the trash, and there is no room for the folder that it lay in: the file is not erased, however short its time in the trash is,
/// and comes back when there is room.
async fn what_cannot_come_back_waits_for_room(backend: Backend, why: Why, trash: Trash) {
    let world = World::new(backend).await.with_docs().await.storage(|s| s.trash(trash));
    let site = Site::new(&world, why);
    let rowbound = site.rowbound(&world);
    rowbound.run(&["attach"]).await.expect(0);
    world.put_doc("e/f/back.jpg").await;
    if let Some(user) = site.user {
        world.give_to(user);
    }
    world.db.exec("delete from doc").await;
    let rowbound = rowbound.env("ROWBOUND_HOLD", "8000");
    // Killed, so that the next process makes its first re-check at once.
    let killed = rowbound.clone().env("ROWBOUND_CRASH_AT", "settled").run(&["collect", "--patience", "40s"]).await;
    assert_eq!(killed.signal, Some(9), "{}", killed.stderr);
    assert_eq!(world.outcomes("e/f/back.jpg").await, ["trashed"]);
    let moved = Instant::now();
    site.shell("rmdir e/f e");
    site.fill();
    world.db.exec("insert into doc (file) values ('e/f/back.jpg')").await;
    let daemon = rowbound.spawn(&["run", "--poll", "20ms"]);
    daemon.wait_for_line(if why == Why::Quota { "Disk quota exceeded" } else { "No space left on device" }, DEADLINE).await;
    let over = || async { moved.elapsed() > Duration::from_secs(20) };
    daemon.until(DEADLINE, "the time in the trash is over", over).await;
    let status = rowbound.run(&["status"]).await;
    show("status", &status);
    assert!(status.code == Some(1) && status.stdout.contains("e/f/back.jpg"), "{}", status.stdout);
    assert!(world.trashed().iter().any(|place| place.ends_with("e/f/back.jpg")), "{:?}: {}", world.trashed(), daemon.said());
    site.make_room();
    let began = Instant::now();
    daemon.until(2 * DEADLINE, "it does not come back", || async { site.media.join("e/f/back.jpg").exists() }).await;
    println!("{backend}, {why:?}, {trash:?}: back {:.1} s after there was room", began.elapsed().as_secs_f64());
    daemon.terminate();
    show("run --poll 20ms", &daemon.wait(DEADLINE).await.expect(0));
    assert_eq!(world.holds("e/f/back.jpg"), "e/f/back.jpg");
    // What was announced with each try is looked at now.
    rowbound.run(&["collect", "--retry-now", "--wait", "40s"]).await.expect(0);
    rowbound.run(&["status"]).await.expect(0);
    world.assert_files_follow_rows().await;
}

/// The same beside files whose time is over: they are erased all the same, and that makes the room in which the other one comes back.
async fn what_cannot_come_back_keeps_nothing_else(backend: Backend, why: Why) {
    let world = World::new(backend).await.with_docs().await.storage(|s| s.trash(Trash::Off));
    let site = Site::new(&world, why);
    let rowbound = site.rowbound(&world).env("ROWBOUND_HOLD", "6000");
    rowbound.run(&["attach"]).await.expect(0);
    let others = names(0, 5);
    for name in others.iter().map(String::as_str).chain(["e/f/back.jpg"]) {
        world.put_doc(name).await;
    }
    world.db.exec("delete from doc").await;
    let killed = rowbound.clone().env("ROWBOUND_CRASH_AT", "settled").run(&["collect", "--patience", "40s"]).await;
    assert_eq!(killed.signal, Some(9), "{}", killed.stderr);
    site.shell("rmdir e/f e d");
    site.fill();
    world.db.exec("insert into doc (file) values ('e/f/back.jpg')").await;
    let daemon = rowbound.spawn(&["run", "--poll", "20ms"]);
    daemon.wait_for_line("No space left on device", DEADLINE).await;
    for name in &others {
        let erased = || async { world.outcomes(name).await == ["trashed", "erased"] };
        daemon.until(DEADLINE, "what cannot come back keeps the others in the trash", erased).await;
    }
    let began = Instant::now();
    daemon.until(2 * DEADLINE, "it does not come back", || async { site.media.join("e/f/back.jpg").exists() }).await;
    println!("{backend}, {why:?}: back {:.1} s after the others were erased", began.elapsed().as_secs_f64());
    daemon.terminate();
    show("run --poll 20ms", &daemon.wait(DEADLINE).await.expect(0));
    assert_eq!(world.holds("e/f/back.jpg"), "e/f/back.jpg");
    site.make_room();
    rowbound.run(&["collect", "--retry-now", "--wait", "40s"]).await.expect(0);
    rowbound.run(&["status"]).await.expect(0);
    world.assert_files_follow_rows().await;
}

/// What cannot be moved is erased where it lies, and does not come back: a row keeps it that spells it in a way that nobody has seen yet.
async fn a_row_that_spells_it_otherwise_keeps_its_file(backend: Backend, why: Why) {
    let world = World::new(backend).await.with_docs().await.storage(|s| s.trash(Trash::Off));
    let site = Site::new(&world, why);
    let rowbound = site.rowbound(&world);
    put(&world, &site, &names(0, 3)).await;
    rowbound.run(&["attach"]).await.expect(0);
    site.fill();
    world.db.exec("insert into doc (file) values ('/d/1.jpg')").await;
    release(&world, &names(0, 3)).await;
    show("collect", &rowbound.run(&["collect"]).await);
    assert_eq!([world.outcomes("d/0.jpg").await, world.outcomes("d/1.jpg").await], [["erased"], ["kept"]]);
    assert_eq!(world.holds("d/1.jpg"), "d/1.jpg");
    site.make_room();
}

macro_rules! on {
    ($module:ident $backend:ident { $($test:ident: $what:ident($($arg:expr),*);)* }) => {
        mod $module {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                if may_mount(concat!(stringify!($module), "::", stringify!($test))) {
                    $what(Backend::$backend, $($arg),*).await;
                }
            })*
        }
    };
}

macro_rules! on_each {
    ($($module:ident $backend:ident),*) => { $(
        on! { $module $backend {
            without_a_trash_a_file_system_without_inodes_stops_no_deletion: deletion_goes_on(Why::NoInode);
            without_a_trash_a_full_disk_stops_no_deletion: deletion_goes_on(Why::NoBlock);
            without_a_trash_a_quota_stops_no_deletion: deletion_goes_on(Why::Quota);
            without_a_trash_a_mount_below_the_root_stops_no_deletion: deletion_goes_on(Why::MountBelow);
            without_a_trash_a_file_that_a_row_spells_otherwise_stays_below_a_mount: a_row_that_spells_it_otherwise_keeps_its_file(Why::MountBelow);
            with_a_trash_files_stay_on_a_file_system_without_inodes: files_stay_until_they_can_be_moved(Why::NoInode);
            with_a_trash_files_stay_on_a_full_disk: files_stay_until_they_can_be_moved(Why::NoBlock);
            with_a_trash_files_stay_under_a_quota: files_stay_until_they_can_be_moved(Why::Quota);
            with_a_trash_files_stay_on_a_mount_below_the_root: files_stay_until_they_can_be_moved(Why::MountBelow);
            what_has_no_room_to_come_back_is_not_erased: what_cannot_come_back_waits_for_room(Why::NoInode, Trash::Off);
            what_has_no_room_to_come_back_waits_in_the_trash: what_cannot_come_back_waits_for_room(Why::Quota, DAY);
            what_has_no_room_to_come_back_keeps_nothing_else: what_cannot_come_back_keeps_nothing_else(Why::NoInode);
        } }
    )* };
}

on_each!(sqlite Sqlite, postgres Postgres);

// On SQLite the lock keeps such a row out.
on! { on_postgres Postgres {
    a_row_that_commits_before_the_erasure_keeps_its_file_on_a_full_disk: a_row_that_commits_in_time_keeps_its_file(Why::NoInode);
    a_row_that_commits_before_the_erasure_keeps_its_file_below_a_mount: a_row_that_commits_in_time_keeps_its_file(Why::MountBelow);
} }
