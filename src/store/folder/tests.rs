//! Links, foreign files, open folders, and root in somebody else's: what a data folder may be and who works in it.

use std::os::unix::fs::{PermissionsExt, chown, symlink};

use super::*;
use crate::store::testing;
use crate::store::{InUse, Store};

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn files_are_whole_private_and_reached_through_no_link() {
    let (place, away) = (testing::Folder::new(), testing::Folder::new());
    let folder = Folder::make(&place.0).unwrap();
    assert_eq!(folder.read("a").unwrap(), None);
    folder.write("a", b"one").unwrap();
    folder.write("a", b"two").unwrap();
    assert_eq!(folder.read_secret("a").unwrap().as_deref(), Some("two"));
    assert_eq!(fs::metadata(place.0.join("a")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(folder.names().unwrap(), ["a"]);
    mode(&place.0.join("a"), 0o640);
    assert!(matches!(folder.read_secret("a"), Err(FolderError::Mode(_))));
    // Links, whether they lead somewhere or nowhere; folders; pipes.
    fs::create_dir_all(&away.0).unwrap();
    fs::write(away.0.join("secret"), "root's own").unwrap();
    symlink(away.0.join("secret"), place.0.join("link")).unwrap();
    symlink("/nowhere/at/all", place.0.join("dangling")).unwrap();
    fs::create_dir(place.0.join("folder")).unwrap();
    for name in ["link", "dangling", "folder"] {
        assert!(matches!(folder.read(name), Err(FolderError::Odd(_))), "{name}");
        assert!(matches!(folder.has(name), Err(FolderError::Odd(_))), "{name}");
        assert!(folder.open_or_make(name).is_err() && folder.appendable(name).is_err(), "{name}");
        assert!(folder.make_new(name).is_err(), "{name}");
    }
    // What replaces a link replaces it, and not what it leads to.
    folder.write("link", b"ours").unwrap();
    assert_eq!(fs::read_to_string(away.0.join("secret")).unwrap(), "root's own");
    assert!(!Path::new("/nowhere").exists());
    symlink(&away.0, place.0.join("below")).unwrap();
    assert!(folder.below("below").is_err());
    folder.remove("below").unwrap();
    assert!(away.0.join("secret").exists());
}

#[test]
fn a_folder_that_others_can_write_to_is_refused_with_the_command_that_mends_it() {
    let place = testing::Folder::new();
    drop(Store::open(&place.0).unwrap());
    for open in [0o720, 0o702, 0o777] {
        mode(&place.0, open);
        let said = Store::open(&place.0).unwrap_err().to_string();
        assert!(said.contains(&format!("run: chmod go-w {}", place.0.display())), "{said}");
        assert!(Store::read(&place.0).is_err() && InUse::shared(&place.0).is_err());
    }
    mode(&place.0, 0o755);
    Store::open(&place.0).unwrap();
}

#[test]
fn a_store_that_is_a_link_is_not_opened() {
    let (place, other) = (testing::Folder::new(), testing::Folder::new());
    drop(Store::open(&other.0).unwrap());
    Folder::make(&place.0).unwrap();
    symlink(other.0.join("portcullis.db"), place.0.join("portcullis.db")).unwrap();
    assert!(matches!(Store::open(&place.0), Err(crate::store::StoreError::Folder(FolderError::Odd(_)))));
    fs::remove_file(place.0.join("portcullis.db")).unwrap();
    drop(Store::open(&place.0).unwrap());
    symlink("/etc/hostname", place.0.join("portcullis.db-wal")).unwrap();
    assert!(Store::open(&place.0).is_err());
}

/// Only root has another user's folder to try this in.
fn is_root() -> bool {
    let text = "this user is not root: work in another user's folder was not tried";
    if geteuid().is_root() {
        return true;
    }
    assert!(std::env::vars().all(|(name, _)| name != "CI"), "{text}");
    eprintln!("{text}");
    false
}

#[test]
fn what_root_makes_in_a_foreign_folder_is_its_owner_s() {
    const OWNER: u32 = 4_321;
    if !is_root() {
        return;
    }
    let above = testing::Folder::new();
    let place = testing::Folder(above.0.join("data"));
    fs::create_dir_all(&place.0).unwrap();
    mode(&place.0, 0o700);
    chown(&place.0, Some(OWNER), Some(OWNER)).unwrap();
    // Where its owner could put another in its place meanwhile, root does not go.
    chown(&above.0, Some(OWNER), None).unwrap();
    assert!(matches!(Folder::open(&place.0), Err(FolderError::Movable { owner: OWNER, .. })));
    chown(&above.0, Some(0), None).unwrap();
    drop(InUse::alone(&place.0).unwrap());
    let store = Store::open(&place.0).unwrap();
    let folder = Folder::open(&place.0).unwrap();
    folder.write("generated.key", b"k").unwrap();
    folder.appendable("audit.heads").unwrap();
    folder.below("boots").unwrap().make_new("mark").unwrap();
    for entry in fs::read_dir(&place.0).unwrap().map(Result::unwrap) {
        let meta = entry.metadata().unwrap();
        assert_eq!((meta.uid(), meta.gid()), (OWNER, OWNER), "{:?}", entry.file_name());
    }
    drop(store);
    assert!(matches!(folder.must_be_ours(), Err(FolderError::Foreign { owner: OWNER, us: 0, .. })));
    // A file that root left behind is named.
    chown(place.0.join("generated.key"), Some(0), Some(0)).unwrap();
    let said = folder.read("generated.key").unwrap_err().to_string();
    assert!(said.contains("generated.key belongs to uid 0") && said.contains("chown 4321"), "{said}");
    // So is one that has a second name where root's files are.
    chown(place.0.join("generated.key"), Some(OWNER), Some(OWNER)).unwrap();
    fs::hard_link(place.0.join("generated.key"), place.0.join("second")).unwrap();
    assert!(matches!(folder.read("generated.key"), Err(FolderError::Odd(_))));
}
