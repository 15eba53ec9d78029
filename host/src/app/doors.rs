//! Opens what `[admin]` names: an address, a Unix socket, or both. What is asked for there, `admin`
//! knows.

use crate::admin::{Doors, OwnerSocket, Token};
use crate::config::{Admin, Loaded};
use crate::reload::{Problems, chain, open_admin};

/// The doors of the admin interface.
///
/// # Errors
/// The address or the socket cannot be had; each is told at its line.
pub(super) fn open(loaded: &Loaded) -> Result<Doors, Problems> {
    let Admin { tcp, address: _, allow_remote: _, socket, token } = &loaded.config.admin;
    let tcp = tcp.then(|| open_admin(loaded)).transpose();
    let unix = socket.as_deref().map(OwnerSocket::bind).transpose();
    let unix = unix.map_err(|error| Problems::from(loaded.locate("admin.socket", chain(&error))));
    let (tcp, unix) = Problems::both(tcp, unix)?;
    Ok(Doors { tcp, unix, token: token.as_ref().map(|token| Token::new(token.text())) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use std::net::TcpListener;
    use std::path::Path;

    fn loaded(admin: &str, directory: &Path) -> Loaded {
        let text = format!(
            "[admin]\n{admin}\n[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\n\
             route = [{{ upstream = \"u\" }}]\n[upstream.u]\nendpoints = [\"127.0.0.1:2\"]\n"
        );
        let token = |_: &str| Some("t0p-s3cret-and-long".into());
        parse(&text, "p.toml", directory, &token).unwrap()
    }

    #[test]
    fn what_is_named_is_opened() {
        let name = format!("pillion-doors-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let socket = "socket = \"./admin.sock\"";
        for (admin, tcp, unix, token) in [
            ("address = \"127.0.0.1:0\"", true, false, false),
            (&format!("address = \"127.0.0.1:0\"\n{socket}\ntoken = \"${{T}}\""), true, true, true),
            (&format!("tcp = false\n{socket}"), false, true, false),
        ] {
            let doors = open(&loaded(admin, &directory)).unwrap();
            assert_eq!(doors.tcp.is_some(), tcp, "{admin}");
            assert_eq!(doors.unix.is_some(), unix, "{admin}");
            assert_eq!(doors.token == Some(Token::new("t0p-s3cret-and-long")), token, "{admin}");
        }

        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        std::fs::write(directory.join("admin.sock"), "precious").unwrap();
        let address = taken.local_addr().unwrap();
        let both = format!("address = \"{address}\"\n{socket}");
        let problems = open(&loaded(&both, &directory)).unwrap_err().to_string();
        for line in ["p.toml:2:11: error: address 127.0.0.1:", "p.toml:3:10: error: `"] {
            assert!(problems.contains(line), "{problems}");
        }
        assert!(problems.contains("admin.sock` is there and is no socket; remove it"));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
