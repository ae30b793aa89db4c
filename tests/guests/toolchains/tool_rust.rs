// One guest of Rust with its standard library: the first argument says what to do; see
// tests/integration/test_toolchains.py for what must come out.

use std::collections::hash_map::RandomState;
use std::env;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::{Duration, Instant, SystemTime};

fn files() -> io::Result<()> {
    fs::create_dir_all("/data/made/deep")?;
    let mut file = OpenOptions::new().read(true).write(true).create(true).open("/data/made/one")?;
    file.write_all(b"first line\nsecond line\n")?;
    file.seek(SeekFrom::Start(6))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    assert_eq!(text, "line\nsecond line\n");
    assert_eq!(fs::metadata("/data/made/one")?.len(), 23);
    fs::rename("/data/made/one", "/data/made/two")?;
    fs::hard_link("/data/made/two", "/data/made/three")?;
    OpenOptions::new().append(true).open("/data/made/three")?.write_all(b"third\n")?;
    let file = OpenOptions::new().write(true).open("/data/made/two")?;
    file.set_len(11)?;
    file.sync_all()?;
    assert_eq!(fs::read("/data/made/three")?, b"first line\n");
    fs::copy("/data/made/two", "/data/made/deep/copy")?;
    let mut names: Vec<_> = fs::read_dir("/data/made")?
        .map(|entry| entry.map(|entry| entry.file_name().into_string().unwrap()))
        .collect::<io::Result<_>>()?;
    names.sort();
    println!("{}", names.join(" "));
    fs::remove_file("/data/made/two")?;
    fs::remove_dir_all("/data/made/deep")?;
    assert!(fs::remove_dir("/data/made").is_err());
    assert!(File::open("/data/../secret").is_err());
    assert!(OpenOptions::new().write(true).open("/read/given").is_err());
    print!("{}", fs::read_to_string("/read/given")?);
    Ok(())
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn passes() {
    let before = Instant::now();
    std::thread::sleep(Duration::from_millis(3));
    assert!(before.elapsed() >= Duration::from_millis(3));
    assert!(SystemTime::now() > SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    println!("time passed");
}

fn main() -> io::Result<()> {
    let args: Vec<String> = env::args().collect();
    match args.get(1).map(String::as_str) {
        None | Some("hello") => println!("hello from Rust"),
        Some("args") => println!("{} {}", args.len(), args[args.len() - 1]),
        Some("env") => println!("{}", env::var("NAME").unwrap()),
        Some("exit") => std::process::exit(args[2].parse().unwrap()),
        Some("stdin") => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text)?;
            print!("{}", text.to_ascii_uppercase());
        }
        Some("sleep") => passes(),
        Some("random") => {
            assert_ne!(random(), random() ^ 1);
            println!("random");
        }
        Some(_) => files()?,
    }
    Ok(())
}
