//! Language runtimes and tools from Debian's packages.

use programs::{assert_same, script};

#[test]
fn python_runs_subprocesses() {
    assert_same(&["python3", "-c", "import subprocess; print(subprocess.run(['echo', 'sub'], capture_output=True))"]);
}

#[test]
fn python_runs_threads() {
    assert_same(&[
        "python3",
        "-c",
        "import threading\nr=[]\nts=[threading.Thread(target=lambda i=i: r.append(i)) for i in range(8)]\n[t.start() for t in ts]\n[t.join() for t in ts]\nprint(sorted(r))",
    ]);
}

const ASYNCIO: &str = "
import asyncio
async def handle(reader, writer):
    data = await reader.read(100)
    writer.write(data.upper())
    await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(handle, '127.0.0.1', 0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection('127.0.0.1', port)
    writer.write(b'hello')
    print(await reader.read())
    writer.close()
asyncio.run(main())
";

#[test]
fn python_serves_asyncio_on_loopback() {
    assert_same(&["python3", "-c", ASYNCIO]);
}

#[test]
fn perl_forks() {
    assert_same(&["perl", "-e", "my $p = fork; if (!$p) { exit 5 } waitpid($p, 0); print $? >> 8, qq(\\n);"]);
}

#[test]
fn gcc_compiles_and_the_result_runs() {
    let (output, status) = script(
        "cd /tmp && printf '#include <stdio.h>\\nint main(void) { puts(\"from C\"); return 3; }\\n' > a.c && gcc -O2 a.c -o a && ./a",
    );
    assert_eq!((output.as_str(), status), ("from C\n", Some(3)));
}

#[test]
fn text_tools_agree_with_the_host() {
    assert_same(&[
        "bash",
        "-c",
        "seq 100 | sed 's/1/x/' | awk '{s+=length($1)} END {print s}'; grep -c root /etc/passwd; sort /etc/group | head -3",
    ]);
}

#[test]
fn tar_and_gzip_round_trip() {
    let (output, status) =
        script("cd /tmp && mkdir s && seq 1000 > s/f && tar czf s.tgz s && rm -r s && tar xzf s.tgz && md5sum < s/f");
    let host = programs::run(programs::on_host(&["bash", "-c", "seq 1000 | md5sum"]));
    assert_eq!((output.as_str(), status), (String::from_utf8_lossy(&host.stdout).as_ref(), Some(0)));
}
