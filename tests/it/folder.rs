//! Somebody else's data folder: what root types for a service leaves nothing of root's there, and follows nothing that lies there.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use crate::command::{Running, run};
use crate::doors::Folder;
use crate::keys::{command, json, text};

const SERVICE: u32 = 4_321;

/// Only root has another user's folder to try this in.
fn is_root() -> bool {
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let words = "this user is not root: work in a service's folder was not tried";
    assert!(root || std::env::vars().all(|(name, _)| name != "CI"), "{words}");
    // Said where it can be read, in a run that captures nothing.
    let _said = (!root).then(|| std::io::stderr().write_all(words.as_bytes()));
    root
}

/// A folder that belongs to a service, in one that root alone may enter: where systemd keeps those of its dynamic users.
fn service(name: &str) -> (Folder, std::path::PathBuf) {
    let place = Folder::new(name);
    fs::set_permissions(&place.0, fs::Permissions::from_mode(0o700)).unwrap();
    let data = place.0.join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    chown(&data, Some(SERVICE), Some(SERVICE)).unwrap();
    (place, data)
}

fn assert_owned(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let meta = entry.path().symlink_metadata().unwrap();
        assert_eq!((meta.uid(), meta.gid()), (SERVICE, SERVICE), "{}", entry.path().display());
        if meta.is_dir() {
            assert_owned(&entry.path());
        }
    }
}

#[test]
fn whatever_root_types_leaves_the_folder_to_its_owner() {
    if !is_root() {
        return;
    }
    let (place, data) = service("service");
    let id = text(&json(&data, &["key", "create", "--name", "laptop", "--json"]), "id");
    let (copy, new) = (place.file("copy"), place.0.join("new"));
    fs::create_dir(&new).unwrap();
    chown(&new, Some(SERVICE), Some(SERVICE)).unwrap();
    for args in [
        &["key", "list"][..],
        &["key", "show", &id],
        &["key", "rotate", &id],
        &["usage"],
        &["audit", "tail"],
        &["audit", "export"],
        &["status"],
        &["backup", &copy],
        &["key", "revoke", &id],
        &["restore", &copy, "--replace"],
    ] {
        let (code, out, errors) = command(&data, args);
        // Nothing runs, so `status` has nothing to say but that.
        assert!(code == 0 || args[0] == "status", "{args:?}: {code} {out}{errors}");
        assert_owned(&data);
    }
    let meta = fs::metadata(&copy).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o777), (0, 0o600), "the copy is whose who asked for it");
    assert_eq!(command(&new, &["restore", &copy]).0, 0);
    assert_owned(&new);
    // Its gateway is started as its user, and says so to everybody else.
    let env = [("PORTCULLIS_DATA_DIR", data.to_str().unwrap()), ("PORT", "0"), ("PORTCULLIS_OPS_PORT", "0")];
    let (code, _, errors) = run(&["serve"], &env);
    assert!(
        code == 2 && errors.contains("belongs to uid 4321") && errors.contains("sudo -u '#4321'"),
        "{errors}"
    );
    assert_owned(&data);
}

#[test]
fn root_follows_no_link_that_lies_in_the_folder() {
    if !is_root() {
        return;
    }
    let (place, data) = service("links");
    let secret = place.0.join("secret");
    fs::write(&secret, "root's own").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(command(&data, &["key", "create", "--name", "laptop"]).0, 0);
    let copy = place.file("copy");
    for (name, args) in [
        ("generated.key", &["backup", &copy][..]),
        ("audit.key", &["backup", &copy]),
        ("audit.heads", &["backup", &copy]),
        ("audit.key", &["audit", "verify"]),
        ("portcullis.lock", &["restore", "/nowhere"]),
    ] {
        let link = data.join(name);
        fs::remove_file(&link).ok();
        symlink(&secret, &link).unwrap();
        let (code, out, errors) = command(&data, args);
        assert_ne!(code, 0, "{name}: {out}");
        assert!(!errors.contains("root's own") && !out.contains("root's own"), "{name}: {out}{errors}");
        assert!(!Path::new(&copy).exists(), "{name} was read into a backup");
        fs::remove_file(&link).unwrap();
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), "root's own");
    assert_eq!(fs::metadata(&secret).unwrap().mode() & 0o777, 0o600);
    // What root names may have been laid by the folder's owner; what it leads to is copied nowhere.
    let laid = place.0.join("laid");
    symlink(&secret, &laid).unwrap();
    let (code, _, errors) = command(&data, &["restore", laid.to_str().unwrap(), "--replace"]);
    assert!(code == 1 && errors.contains("is a link, or is reached through one"), "{errors}");
    // Names that a restore writes to.
    assert_eq!(command(&data, &["backup", &copy]).0, 0);
    for name in ["portcullis.db.restoring", "audit.key.restoring"] {
        symlink(&secret, data.join(name)).unwrap();
    }
    assert_eq!(command(&data, &["restore", &copy, "--replace"]).0, 0);
    assert_eq!(fs::read_to_string(&secret).unwrap(), "root's own");
    // A pipe under the name of a journal would hold root up for ever.
    let pipe = data.join("portcullis.db-journal");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (code, _, errors) = command(&data, &["key", "list"]);
    assert!(code == 1 && errors.contains("portcullis.db-journal must be a regular file"), "{errors}");
    fs::remove_file(pipe).unwrap();
    // The store itself.
    fs::remove_file(data.join("portcullis.db")).unwrap();
    symlink(&secret, data.join("portcullis.db")).unwrap();
    let (code, _, errors) = command(&data, &["key", "list"]);
    assert!(code == 1 && errors.contains("portcullis.db must be a regular file"), "{errors}");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "root's own");
}

#[test]
fn what_is_wrong_with_the_folder_is_said_with_the_command_that_mends_it() {
    let place = Folder::new("open-folder");
    let data = place.0.join("data");
    assert_eq!(command(&data, &["key", "create", "--name", "laptop"]).0, 0);
    fs::set_permissions(&data, fs::Permissions::from_mode(0o770)).unwrap();
    let env = [("PORTCULLIS_DATA_DIR", data.to_str().unwrap()), ("PORT", "0"), ("PORTCULLIS_OPS_PORT", "0")];
    for args in [&["serve"][..], &["key", "list"], &["usage"], &["audit", "verify"]] {
        let (code, _, errors) = run(args, &env);
        let words = format!("chmod go-w {}", data.display());
        assert!(code != 0 && errors.contains(&words), "{args:?}: {errors}");
    }
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    if !is_root() {
        return;
    }
    chown(data.join("portcullis.db"), Some(SERVICE), None).unwrap();
    let (code, _, errors) = run(&["serve"], &env);
    assert!(code == 2 && errors.contains("portcullis.db belongs to uid 4321"), "{errors}");
    assert!(errors.contains("chown 0 "), "{errors}");
}

#[test]
fn a_file_of_the_working_folder_is_named_and_one_of_another_user_is_refused() {
    let place = Folder::new("found-file");
    let file = place.0.join("portcullis.toml");
    fs::write(&file, "[limits]\nconcurrent = 3\n").unwrap();
    let check = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.env_clear().env("HOME", &place.0).current_dir(&place.0).arg("check").args(args);
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, _) = check(&[]);
    assert!(code == 0 && out.contains(file.to_str().unwrap()), "{out}");
    if !is_root() {
        return;
    }
    chown(&file, Some(SERVICE), None).unwrap();
    let (code, _, errors) = check(&[]);
    assert!(code == 2 && errors.contains("belongs to uid 4321"), "{errors}");
    assert_eq!(check(&["--config", "portcullis.toml"]).0, 0);
}

#[test]
fn a_store_in_use_is_locked_against_other_programs() {
    let place = Folder::new("in-use");
    let data = place.0.join("data");
    let env = [("PORTCULLIS_DATA_DIR", data.to_str().unwrap()), ("PORTCULLIS_OPS_PORT", "0")];
    let running = Running::start(&env);
    // By this lock other programs know that somebody has the store open. A process that closes a descriptor of its own of a file loses
    // all its locks on it (POSIX), and another version of SQLite would then convert the store under the running gateway.
    let inode = format!(":{} ", fs::metadata(data.join("portcullis.db")).unwrap().ino());
    let locks = fs::read_to_string("/proc/locks").unwrap();
    assert!(locks.lines().any(|lock| lock.contains("POSIX") && lock.contains(&inode)), "{locks}");
    assert_eq!(running.stop().0, 0);
}

#[test]
fn who_looks_for_keys_in_the_wrong_folder_leaves_nothing_there() {
    let place = Folder::new("wrong-folder");
    let data = place.0.join("data");
    for args in [&["key", "list"][..], &["key", "show", "Ab12Cd34"], &["key", "revoke", "Ab12Cd34"]] {
        let (code, _, errors) = command(&data, args);
        assert!(code == 1 && errors.contains("there is no store in "), "{args:?}: {errors}");
        assert!(errors.contains("PORTCULLIS_DATA_DIR"), "{errors}");
    }
    assert!(!data.exists());
}
